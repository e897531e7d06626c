"""Install what `make test-real` needs besides .venv, and list what is missing. With CI=true a missing part fails.

    python3 -m include.setup.counterparts

| part           | installed in      | tests                                                         |
|----------------|-------------------|---------------------------------------------------------------|
| MAX Serve      | .cache/max-venv   | the model server's contract; swaps under load; `SERVER=max`   |
| docker-compose | the system (apt)  | the production file, as docker-compose reads it               |
| Redis          | the system (apt)  | CeleryExecutor, and killed workers                            |
| Prometheus     | the system (apt)  | the alerts and the dashboard's queries                        |
| Chromium       | the system (apt)  | the page, in a real browser                                   |
| SmolLM2        | .cache/smollm2    | a real chat model from a wheel; `MODEL=smollm2`               |

At its first start MAX Serve compiles a model, which takes three minutes, and caches the result in .cache/max-cache.
"""

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from include.setup.packages import ROOT, Environment, SetupError, create_beside, find_uv, run, step

MAX = "modular==26.7.0"
MAX_ENVIRONMENT = ROOT / ".cache" / "max-venv"
SMOLLM2 = ROOT / "requirements-smollm2.txt"
POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Part:
    """A program that tests marked `real` run against. `without` says what is not tested if it is missing."""

    name: str
    without: str
    prepare: Callable[[], object]


def max_serve() -> None:
    """Install MAX in a separate environment: it pins older packages than Airflow needs."""
    complete = MAX_ENVIRONMENT / MAX
    if complete.exists():
        return
    if platform.system() != "Linux":
        raise SetupError("MAX Serve is tested on Linux only")
    venv = create_beside(MAX_ENVIRONMENT)
    if not venv.uv:
        raise SetupError("pip cannot resolve MAX's requirements: install uv and run `make test-real` again")
    with step(f"{MAX}, 1.8 GB, into .cache/max-venv"):
        venv.install(MAX)
    complete.touch()


def smollm2() -> Path:
    """The directory with the wheels of SMOLLM2, named by their versions and hashes; installs them if it is missing.

    .venv's installer puts them there, without what they require: their own programs are not used.
    """
    digest = hashlib.sha256(SMOLLM2.read_bytes()).hexdigest()
    complete = ROOT / ".cache" / "smollm2" / f"wheels-{digest[:12]}"
    if complete.exists():
        return complete
    partial = complete.with_name(f"{complete.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    with step("SmolLM2-135M-Instruct, 93 MB, into .cache/smollm2"):
        Environment(ROOT / ".venv", find_uv()).install(
            "--target", partial, "--no-deps", "--require-hashes", "--requirement", SMOLLM2
        )
    partial.rename(complete)
    return complete


def system_package(program: str, package: str) -> None:
    """Install `package` in CI if `program` is missing; elsewhere raise SetupError with the command to run."""
    if shutil.which(program):
        return
    if not (in_ci() and os.geteuid() == 0 and shutil.which("apt-get")):
        raise SetupError(f"{program} is missing: run `apt-get install {package}`, or your system's equivalent")
    with step(f"{package} from the system's packages"), no_service(POLICY):
        run(["apt-get", "update"])
        run(["apt-get", "install", "--yes", "--no-install-recommends", package], DEBIAN_FRONTEND="noninteractive")


@contextmanager
def no_service(policy: Path) -> Iterator[None]:
    """Prevent packages from starting their services during the block: Debian's packages run `policy` to ask."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


PARTS = (
    Part("MAX Serve", "its tests are skipped; the local server is still tested", max_serve),
    Part(
        "docker-compose",
        "docker-compose.airflow.yaml is checked by our own rules only",
        partial(system_package, "docker-compose", "docker-compose"),
    ),
    Part("Redis", "CeleryExecutor is not tested", partial(system_package, "redis-server", "redis-server")),
    Part(
        "Prometheus",
        "only the metric names of alerts and dashboard are checked",
        partial(system_package, "prometheus", "prometheus"),
    ),
    Part("Chromium", "the page is not tested", partial(system_package, "chromium", "chromium")),
    Part("SmolLM2", "the conversion of the model of `make demo MODEL=smollm2` is not tested", smollm2),
)


def main() -> int:
    missing = 0
    for part in PARTS:
        try:
            part.prepare()
        except SetupError as error:
            missing += 1
            print(f"  missing: {part.name}: {part.without}.\n    {error}", flush=True)
        else:
            print(f"  ready: {part.name}", flush=True)
    return 1 if missing and in_ci() else 0


if __name__ == "__main__":
    sys.exit(main())
