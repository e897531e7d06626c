"""requirements.txt, its lock, and the part of it in the image without torch."""

import re
import subprocess
from importlib import metadata

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.production.conftest import ROOT

FILES = ("requirements.txt", "requirements-dev.txt")
NEEDS_TORCH = {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets"}


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def requirements(name: str) -> list[Requirement]:
    return [Requirement(line.split("#")[0]) for line in lines(name)]


def lock() -> dict[str, str]:
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines("requirements.lock"))
    }


def in_the_image() -> list[Requirement]:
    """The requirements that remain after the Dockerfile's own command."""
    cut = re.search(r"sed '([^']+)' /build/requirements.txt", (ROOT / "Dockerfile").read_text())
    assert cut
    left = subprocess.run(["sed", cut[1], ROOT / "requirements.txt"], capture_output=True, text=True, check=True).stdout
    return [Requirement(line.split("#")[0]) for line in left.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", [*FILES, "requirements-swift.txt"])
def test_a_direct_requirement_is_listed_once(name: str) -> None:
    names = [canonicalize_name(requirement.name) for requirement in requirements(name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", FILES)
def test_a_direct_requirement_has_a_comment(name: str) -> None:
    assert all(re.search(r"  # \S", line) for line in lines(name))


@pytest.mark.parametrize("name", FILES)
def test_the_lock_satisfies_every_range(name: str) -> None:
    locked = lock()
    for requirement in requirements(name):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(requirement)


def test_the_lock_has_no_builds_paths_or_cuda() -> None:
    assert all(
        re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*(\.post\d+)?", line) for line in lines("requirements.lock")
    )
    assert not {name for name in lock() if name.startswith(("nvidia", "cuda", "triton"))}
    assert not {"pip", "uv"} & set(lock())


def test_every_locked_package_except_torch_has_hashes() -> None:
    text = (ROOT / "requirements.hashes").read_text()
    found = re.findall(r"^(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE)
    assert {canonicalize_name(name): version for name, version, _ in found} == {
        name: version for name, version in lock().items() if name != "torch"
    }
    left = [line for line in text.splitlines() if not re.match(r"#|\S+==\S+ \\|    --hash=sha256:", line)]
    assert not left, "expected no index, no path and no option"


def test_the_installed_packages_match_the_lock() -> None:
    differing = {}
    for name, version in lock().items():
        try:
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            differing[name] = (version, installed)
    assert not differing, "locked and installed differ: run `make install`, or `make lock` to update the lock"


def test_the_dockerfile_removes_exactly_what_needs_torch() -> None:
    everything = {requirement.name for requirement in requirements("requirements.txt")}
    assert everything - {requirement.name for requirement in in_the_image()} == NEEDS_TORCH


def test_nothing_in_the_image_pulls_torch_in() -> None:
    waiting = [*in_the_image(), Requirement("apache-airflow-providers-fab")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            environments = [{**default_environment(), "extra": extra} for extra in extras or {""}]
            if needed.marker is None or any(needed.marker.evaluate(each) for each in environments):
                waiting.append(needed)
    assert len(seen) > 100
    assert not {name for name, _ in seen} & NEEDS_TORCH


def test_the_dockerfile_is_pinned_and_copies_existing_files() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert f"apache/airflow:slim-{lock()['apache-airflow']}-python3.11 AS airflow" in text
    assert re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE) == ["airflow", "gpu-worker"]
    assert "_PIP_ADDITIONAL_REQUIREMENTS" not in text + (ROOT / "docker-compose.airflow.yaml").read_text()
    assert all(
        "--constraint /build/requirements.lock" in step for step in re.findall(r"pip install(.*(?:\\\n.*)*)", text)
    )
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?:--\S+ )?(.+)$", text, re.MULTILINE)]
    assert {source for sources in copied for source in sources} == kept
    assert all((ROOT / source).exists() for source in kept)
