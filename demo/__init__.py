"""The demo: the whole loop on this machine. `python -m demo` works in the repository root, without installing it."""

import sys
from pathlib import Path

PLUGINS = str(Path(__file__).resolve().parents[1] / "plugins")
if PLUGINS not in sys.path:
    sys.path.append(PLUGINS)
