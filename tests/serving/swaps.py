"""Swap versions on a server under load: a base model, two adapters with different answers, and the swaps."""

import dataclasses
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from learning_engine import archive
from learning_engine.records import probe
from learning_engine.records.contracts import AdapterVersion, Deployment, LoraShape
from learning_engine.records.probe import Probe
from learning_engine.records.report import Probes
from learning_engine.registry import manifest
from learning_engine.registry.store import Store
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps.resources import workspace
from tests import tiny
from tests.registry import work
from tests.serving import truth
from tests.serving.traffic import Traffic, capacity, in_turn
from tests.steps.conftest import Loop

TOKENS, PROBES = 16, 3
# In nats: a margin large enough that another implementation's rounding does not change the first choice.
MARGIN = 0.005
QUESTIONS = [
    [{"role": "user", "content": f"Where is the {colour} {thing}?"}]
    for colour in tiny.COLOURS[:5]
    for thing in tiny.THINGS
]
# How often a client reads the pointer, in seconds.
POINTER_SECONDS = 0.5
# The drain must outlast the longest request: this many times the longest one of a saturated server, or these seconds.
DRAIN_FACTOR, DRAIN_SECONDS = 4, 2.0


@dataclass(frozen=True)
class World:
    """A base model, its adapters by name, and the `answers` to the same questions by name (the base's under "")."""

    base: Path
    adapters: Mapping[str, Path]
    answers: Mapping[str, Sequence[Probe]]


def publish(loop: Loop, number: int, base: Path, adapter: Path, probes: Sequence[Probe]) -> AdapterVersion:
    """Publish `adapter` as the version of week `number` in a chain on `base`, with these probes."""
    store, key = loop.resources.store, f"week-{number}"
    parents = loop.resources.registry.numbers()
    with workspace() as place:
        packed = archive.pack(adapter, place / "adapter.tar.gz")
        shape = LoraShape(16, 32.0, tiny.TARGETS)
        staged = work.stage(
            store, key, work.week(number), parents[-1] if parents else None,
            base_model=str(base), base_revision="", lora=shape, sha256=packed.sha256, size=packed.size,
        )  # fmt: skip
        store.put_file(manifest.run_key(key, "adapter.tar.gz"), place / "adapter.tar.gz")
    uri = store.uri(manifest.run_key(key, "probes.json"))
    digest = store.put_bytes(store.key(uri), probe.dump(list(probes)))
    report = dataclasses.replace(staged.draft.report, probes=Probes(uri, digest, len(probes), MARGIN))
    draft = dataclasses.replace(staged.draft, report=report)
    return dataclasses.replace(staged, draft=draft).publish(loop.resources.registry)


def publish_both(loop: Loop, world: World) -> tuple[AdapterVersion, AdapterVersion]:
    """Both adapters as versions, the second continuing the first."""
    first, second = (
        publish(loop, number, world.base, world.adapters[name], world.answers[name][:PROBES])
        for number, name in enumerate(("one", "two"))
    )
    return first, second


def server_name(loop: Loop, version: AdapterVersion) -> str:
    return manifest.server_name(version.version, version.sha256, loop.resources.settings.serving.adapter_prefix)


def make_base(directory: Path) -> Path:
    """A random base model that rarely chooses tokens with partial characters, which each server streams differently."""
    base = tiny.make_base(directory)
    tokenizer, weights = AutoTokenizer.from_pretrained(base), load_file(base / "model.safetensors")
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        if token in tokenizer.all_special_ids or not text.isascii() or not text.isprintable():
            weights["lm_head.weight"][token] = 0
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    return base


def make_world(base: Path, directory: Path) -> World:
    """Adapters of `base`, and the questions that base and adapters each answer differently and with a clear margin."""
    adapters = {name: tiny.make_adapter(base, directory / name, seed=seed) for seed, name in ((1, "one"), (2, "two"))}
    models: dict[str, Path | None] = {"": None, **adapters}
    found = {name: truth.probes(base, path, prompts=QUESTIONS, tokens=TOKENS) for name, path in models.items()}
    clear = [
        row for row in range(len(QUESTIONS))
        if all(answers[row].margin >= MARGIN and answers[row].text.isascii() for answers in found.values())
        and len({answers[row].text.strip() for answers in found.values()}) == len(found)
    ]  # fmt: skip
    assert len(clear) >= 8, f"only {len(clear)} questions distinguish base and adapters"
    return World(base, adapters, {name: [answers[row] for row in clear] for name, answers in found.items()})


class Pointer:
    """The live adapter's name as known to a client that rereads the pointer after POINTER_SECONDS."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._name, self._read_at = "", -POINTER_SECONDS

    def name(self) -> str:
        with self._lock:
            if time.monotonic() - self._read_at >= POINTER_SECONDS:
                self._name = Deployment.from_json(self._store.get_json(manifest.CURRENT)).adapter_name
                self._read_at = time.monotonic()
            return self._name


def under_load(loop: Loop, world: World, *, swaps: int) -> dict[str, Any]:
    """Do `swaps` swaps and a rollback at half of the server's capacity; return the figures.

    Capacity is measured with two alternating adapters, as around a swap: MAX repacks its weights whenever the adapters
    of a batch change, and then answers fewer requests than with one adapter. Asserts that every answer came from the
    requested version, and that every version was requested. The figures show whether a request outlasted the drain, on
    a machine that has become slower since the measurement.
    """
    url = loop.resources.serving.replicas[0]
    made = [("one", "two")[number % 2] for number in range(swaps + 2)]
    versions = [
        publish(loop, number, world.base, world.adapters[name], world.answers[name][:PROBES])
        for number, name in enumerate(made)
    ]
    answers_by_name = {
        server_name(loop, version): world.answers[name] for version, name in zip(versions, made, strict=True)
    }
    before, live = (str(loop.serve(version, run_id=version.version).adapter_name) for version in versions[:2])
    alone = capacity(url, in_turn(*((live, answer) for answer in answers_by_name[live])))
    pairs = zip(answers_by_name[before], answers_by_name[live], strict=True)
    turns = capacity(url, in_turn(*(turn for one, two in pairs for turn in ((before, one), (live, two)))))
    drain = POINTER_SECONDS + max(DRAIN_SECONDS, DRAIN_FACTOR * turns.longest)
    loop = loop.with_settings(serving={"drain_seconds": drain})
    pointer, chance = Pointer(loop.resources.store), random.Random(0)  # noqa: S311

    def choose() -> tuple[str, Probe]:
        name = pointer.name()
        return name, chance.choice(answers_by_name[name])

    durations = []
    with Traffic(url, choose, rate=turns.rate / 2) as traffic:
        traffic.wait_for(live)
        for version in versions[2:]:
            began = time.monotonic()
            served = loop.serve(version, run_id=version.version)
            durations.append(round(time.monotonic() - began, 2))
            traffic.wait_for(str(served.adapter_name))
        target = deploy_step.choose(loop.resources, action="rollback", version=None)
        back = loop.serve(target, run_id="back", action="rollback", by_hand=True)
    figures = {
        **traffic.figures(),
        "capacity_alone": round(alone.rate, 1),
        "capacity_in_turns": round(turns.rate, 1),
        "drain_seconds": round(drain, 2),
        "swap_seconds": durations,
    }
    assert not traffic.faults(), (figures, traffic.faults()[:3])
    assert {reply.model for reply in traffic.replies} == answers_by_name.keys() - {before}, figures
    assert (back.version, loop.resources.ledger.current()) == (versions[-2].version, back)
    return figures
