"""The demo: the whole loop on this machine. Run `python -m demo` in the repository root; no installation is needed."""

import sys
from pathlib import Path

PLUGINS = str(Path(__file__).resolve().parents[1] / "plugins")
if PLUGINS not in sys.path:
    sys.path.append(PLUGINS)
