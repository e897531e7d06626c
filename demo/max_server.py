"""The complete, real MAX Serve on this machine's CPU, for `make demo SERVER=max` and the tests that need it.

include/setup/counterparts.py installs it into a separate environment; demo/cpu_lora.py starts it there. A model is
compiled for three minutes at its first start and for 40 s more at its first request. The result is kept in
.cache/max-cache; later starts take half a minute.
"""

import os
from pathlib import Path

import requests

from demo.ports import LOOPBACK, free_port
from demo.processes import Program
from include.setup import counterparts
from include.setup.packages import ROOT
from learning_engine.config.sections import Serving
from learning_engine.serving.client import Replica

NOTE = "MAX Serve 26.7.0, its LoRA kernel replaced by a dense one on the CPU"
LAUNCHER = Path(__file__).with_name("cpu_lora.py")
CACHE = ROOT / ".cache" / "max-cache"
PYTHON = counterparts.MAX_ENVIRONMENT / "bin" / "python"
# Compilation may share two cores with other processes.
PATIENCE = 1800.0
FIRST_REQUEST = 300.0
MAX_TOKENS = 256
# Without the first or the last of these flags MAX does not start; without the interpreter its first request kills it.
FLAGS = ("--prefer-module-v3", "--enable-lora", "--allow-cold-interpreter-cache", "--no-enable-prefix-caching")
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def program(model: Path, name: str, *, port: int, max_loras: int = 3, max_rank: int = 16) -> Program:
    """The program that serves `model` as `name`, with three adapters as in production: new, live and previous."""
    options = {
        "--model": model,
        "--served-model-name": name,
        "--devices": "cpu",
        "--host": LOOPBACK,
        "--port": port,
        "--max-length": MAX_TOKENS,
        "--max-batch-size": 4,
        "--max-num-loras": max_loras,
        "--max-lora-rank": max_rank,
    }
    words = [str(word) for option in options.items() for word in option]
    environment = {
        **{variable: os.environ[variable] for variable in INHERITED if variable in os.environ},
        "MAX_SERVE_DISABLE_TELEMETRY": "1",
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(free_port(8001, taken={port})),
        "MAX_EAGER_EXECUTOR": "interpreter",
        "MODULAR_CACHE_DIR": str(CACHE),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return Program(
        "model-server",
        (str(PYTHON), "-P", str(LAUNCHER), "serve", *words, *FLAGS),
        env=environment,
        healthy=lambda: requests.get(f"http://{LOOPBACK}:{port}/health", timeout=5).ok,
        port=port,
        patience=PATIENCE,
    )


def warm_up(url: str, name: str) -> None:
    """Send the slow first request, so that no user waits for it. Raises ServingError if it is not answered."""
    patient = Replica(url, Serving(request_timeout_seconds=FIRST_REQUEST))
    patient.complete(name, [{"role": "user", "content": "Hello"}], max_tokens=1)
