"""The real MAX Serve, whole, on this machine's CPU: `make demo SERVER=max`, and the tests that need it.

Installed by include/setup/counterparts.py into an environment of its own; demo/cpu_lora.py starts it there. The first
start of a model compiles it, for three minutes, and its first request for 40 seconds more; what is compiled is kept in
.cache/max-cache, with which a start takes half a minute.
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
# Compiling on two cores that others use too.
PATIENCE = 1800.0
FIRST_REQUEST = 300.0
MAX_TOKENS = 256
# Without the first and the last of these flags it exits, and without the interpreter the first request kills it.
FLAGS = ("--prefer-module-v3", "--enable-lora", "--allow-cold-interpreter-cache", "--no-enable-prefix-caching")
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def program(model: Path, name: str, *, port: int, max_loras: int = 3, max_rank: int = 16) -> Program:
    """Serve `model` under `name`. Three adapters, as in production: the new one, the live one and the one before."""
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
    """The first request, which nobody should have to wait for. Raises ServingError where it is not answered."""
    patient = Replica(url, Serving(request_timeout_seconds=FIRST_REQUEST))
    patient.complete(name, [{"role": "user", "content": "Hello"}], max_tokens=1)
