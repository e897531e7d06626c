"""Where everything lies in the bucket, and how versions are numbered.

One major number is one family: a base model at one revision with one LoRA shape. Within it each version adds one to the
minor number; another family starts the next free major number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from learning_engine.errors import RegistryError
from learning_engine.records.contracts import LoraShape

ADAPTERS, FISHER, HELDOUT, REPLAY, RUNS = "adapters/", "fisher/", "heldout/", "replay/", "runs/"
LEDGER, CURRENT = "deployments/ledger/", "deployments/current.json"
# The objects of one version below adapters/<version>/; metadata is written last, and its presence is the version. The
# name of a claim goes on with the run key.
ARCHIVE, CARD, CLAIM, PROBES = "adapter.tar.gz", "README.md", "claim-", "probes.json"
METADATA, REVOKED, SWEPT, VOUCHED = "metadata.json", "revoked.json", "swept.json", "vouched.json"
# Below runs/<run key>/: what makes a training's candidate whole, and what the training tells while it runs.
CANDIDATE, PROGRESS = "candidate.json", "progress.json"
# Below fisher/<version>/: names the newest measurement among the files beside it.
FISHER_RECORD = "fisher.json"

_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_OF_VERSION = re.compile(r"(?:adapters|fisher|heldout|replay)/(v[0-9]+\.[0-9]+)/.+")
_LEDGER_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, order=True)
class VersionNumber:
    """v1.3: the fourth version of the first family. Ordered as numbers, so v1.10 follows v1.9."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        if not (match := _VERSION.fullmatch(text)):
            raise RegistryError(f"Expected a version such as v1.3, found {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}"


@dataclass(frozen=True)
class Family:
    """What all versions of one major number share, because one's weights continue the other's."""

    base_model: str
    base_revision: str
    lora: LoraShape

    @classmethod
    def of(cls, record: Any) -> Self:
        """That of a version or a claim."""
        return cls(record.base_model, record.base_revision, record.lora)


def next_number(taken: Mapping[VersionNumber, Family | None], family: Family) -> VersionNumber:
    """The next number of `family`, given all that are published or claimed (None: nobody's); the first is v1.0."""
    own = [number for number, other in taken.items() if other == family]
    if not own:
        return VersionNumber(max((number.major for number in taken), default=0) + 1, 0)
    major = max(own).major
    return VersionNumber(major, max(number.minor for number in taken if number.major == major) + 1)


def server_name(version: str, sha256: str, prefix: str = "") -> str:
    """The name under which a model server holds a version: never the same for other weights."""
    return _name(f"{prefix}{version}-{sha256[:8]}")


def adapter_key(version: str, name: str) -> str:
    return f"{ADAPTERS}{_name(version)}/{_name(name)}"


def claim_name(run: str) -> str:
    return f"{CLAIM}{_name(run)}.json"


def fisher_key(guards: str, name: str) -> str:
    return f"{FISHER}{_name(guards)}/{_name(name)}"


def heldout_key(version: str) -> str:
    return f"{HELDOUT}{_name(version)}/heldout.parquet"


def replay_key(version: str) -> str:
    return f"{REPLAY}{_name(version)}/replay.parquet"


def run_key(run: str, name: str) -> str:
    """An object in the staging of one run; `name` may have folders."""
    return f"{RUNS}{_name(run)}/" + "/".join(_name(part) for part in name.split("/") if part) + "/" * name.endswith("/")


def version_of(key: str) -> str | None:
    """The version to whose number an object belongs; None for what belongs to none."""
    match = _OF_VERSION.fullmatch(key)
    return match[1] if match else None


def ledger_key(at: datetime, version: str | None) -> str:
    """Sorted by key is sorted by time."""
    return f"{LEDGER}{at.astimezone(UTC).strftime(_LEDGER_TIME)}-{_name(version or 'base')}.json"


def ledger_time(key: str) -> datetime:
    """The time in a key that `ledger_key` made."""
    text = key.removeprefix(LEDGER).partition("-")[0]
    return datetime.strptime(text, _LEDGER_TIME).replace(tzinfo=UTC)


def ledger_version(key: str) -> str | None:
    """The version in a key that `ledger_key` made; None for the base model."""
    version = key.removeprefix(LEDGER).partition("-")[2].removesuffix(".json")
    return None if version == "base" else version


def _name(text: str) -> str:
    """Of [A-Za-z0-9._-], and more than dots: safe as part of a key, of a path and of a server's name."""
    if not _NAME.fullmatch(text):
        raise RegistryError(f"Expected a name of the characters A-Z a-z 0-9 . _ -, found {text!r}")
    return text
