"""Learning: Fisher information, the EWC penalty, training, and the models that they work on."""

import logging

# When peft imports it, bitsandbytes warns of a missing optional package, at each start of a task.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
