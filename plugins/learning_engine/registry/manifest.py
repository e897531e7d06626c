"""Object keys in the bucket, and version numbers.

A major number stands for one family: a base model at one revision with one LoRA shape. Each version of the family adds
one to the minor number. Another family starts at the next free major number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from learning_engine.errors import RegistryError
from learning_engine.records.contracts import LoraShape

ADAPTERS, ANCHORS, FISHER, HELDOUT = "adapters/", "anchors/", "fisher/", "heldout/"
REPLAY, RUNS = "replay/", "runs/"
LEDGER, CURRENT = "deployments/ledger/", "deployments/current.json"
# The prefixes of versions' objects; those in TEXTS hold user text.
TEXTS = (HELDOUT, REPLAY)
PLACES = (ADAPTERS, FISHER, *TEXTS)
# A version's objects below adapters/<version>/. The version exists once METADATA does, which is written last. CLAIM is
# a prefix; the run key follows.
ARCHIVE, CARD, CLAIM, PROBES = "adapter.tar.gz", "README.md", "claim-", "probes.json"
METADATA, REVOKED, SWEPT, VOUCHED = "metadata.json", "revoked.json", "swept.json", "vouched.json"
# Below runs/<run key>/: the record that completes a candidate, and the progress that a running training reports.
CANDIDATE, PROGRESS = "candidate.json", "progress.json"
# Below fisher/<version>/: the record that names the newest measurement among the files in this place.
FISHER_RECORD = "fisher.json"

_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_OF_VERSION = re.compile(r"(?:adapters|fisher|heldout|replay)/(v[0-9]+\.[0-9]+)/.+")
_LEDGER_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, order=True)
class VersionNumber:
    """v1.3 is the fourth version of the first family. Ordered numerically: v1.10 follows v1.9."""

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
    """What all versions of a major number have in common, so that one can continue another's weights."""

    base_model: str
    base_revision: str
    lora: LoraShape

    @classmethod
    def of(cls, record: Any) -> Self:
        """The family of a version or a claim."""
        return cls(record.base_model, record.base_revision, record.lora)


def next_number(taken: Mapping[VersionNumber, Family | None], family: Family) -> VersionNumber:
    """The next number of `family`, given all published or claimed numbers (None: of no family); the first is v1.0."""
    own = [number for number, other in taken.items() if other == family]
    if not own:
        return VersionNumber(max((number.major for number in taken), default=0) + 1, 0)
    major = max(own).major
    return VersionNumber(major, max(number.minor for number in taken if number.major == major) + 1)


def server_name(version: str, sha256: str, prefix: str = "") -> str:
    """The name under which a model server loads a version. Different weights never share a name."""
    return _name(f"{prefix}{version}-{sha256[:8]}")


def adapter_key(version: str, name: str) -> str:
    return f"{ADAPTERS}{_name(version)}/{_name(name)}"


def claim_name(run: str) -> str:
    return f"{CLAIM}{_name(run)}.json"


def fisher_key(guards: str, name: str) -> str:
    return f"{FISHER}{_name(guards)}/{_name(name)}"


def anchor_key(base: str) -> str:
    return f"{ANCHORS}{_name(base)}/anchor.parquet"


def heldout_key(version: str) -> str:
    return f"{HELDOUT}{_name(version)}/heldout.parquet"


def replay_key(version: str) -> str:
    return f"{REPLAY}{_name(version)}/replay.parquet"


def run_key(run: str, name: str) -> str:
    """An object in a run's staging; `name` may contain folders."""
    return f"{RUNS}{_name(run)}/" + "/".join(_name(part) for part in name.split("/") if part) + "/" * name.endswith("/")


def version_of(key: str) -> str | None:
    """The version number to which an object belongs; None if it belongs to none."""
    match = _OF_VERSION.fullmatch(key)
    return match[1] if match else None


def ledger_key(at: datetime, version: str | None) -> str:
    """Sorting the keys sorts the entries by time."""
    return f"{LEDGER}{at.astimezone(UTC).strftime(_LEDGER_TIME)}-{_name(version or 'base')}.json"


def is_ledger_key(key: str) -> bool:
    """Whether `ledger_key` made this key; other programs may put objects such as folder markers there."""
    try:
        ledger_time(key)
    except ValueError:
        return False
    return key.endswith(".json")


def ledger_time(key: str) -> datetime:
    """The time in a key made by `ledger_key`."""
    text = key.removeprefix(LEDGER).partition("-")[0]
    return datetime.strptime(text, _LEDGER_TIME).replace(tzinfo=UTC)


def ledger_version(key: str) -> str | None:
    """The version in a key made by `ledger_key`; None for the base model."""
    version = key.removeprefix(LEDGER).partition("-")[2].removesuffix(".json")
    return None if version == "base" else version


def _name(text: str) -> str:
    """Check that `text` consists of [A-Za-z0-9._-] and is more than signs: safe in a key, a path and a server name."""
    if not _NAME.fullmatch(text):
        raise RegistryError(f"Expected a name of the characters A-Z a-z 0-9 . _ -, found {text!r}")
    return text
