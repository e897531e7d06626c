from dataclasses import replace

import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import FisherMismatch
from learning_engine.learning import fisher, sketch
from learning_engine.learning import information as information_file
from learning_engine.learning.information import FisherInformation
from learning_engine.records.contracts import FisherRecord, LoraShape

SHAPE = LoraShape(16, 32.0, ("k_proj", "o_proj", "q_proj", "v_proj"))


def information(**changes) -> FisherInformation:
    generator = torch.Generator().manual_seed(0)
    diagonal = {f"layer.{index}.weight": torch.rand(3, 2, generator=generator) for index in range(5)}
    plain = FisherInformation(
        diagonal,
        "diagonal",
        "sampled",
        "per_supervised_token",
        3,
        20,
        "llama",
        "abc",
        SHAPE,
        "v1.1",
        ("base",),
        0.5,
        0.1,
    )
    return replace(plain, **changes)


def ask(path, **changes):
    asked = {"base_model": "llama", "base_revision": "abc", "lora": SHAPE, "kind": "diagonal"}
    return information_file.load(path, **{**asked, "labels": "sampled", "smoothing": 0.1, **changes})


def test_saved_information_loads_unchanged(tmp_path):
    information_file.save(information(), tmp_path / "a")
    found = ask(tmp_path / "a", lora=replace(SHAPE, target_modules=SHAPE.target_modules[::-1]))
    assert replace(found, tensors={}) == replace(information(), tensors={})
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in information().tensors.items())
    for _ in range(5):
        information_file.save(found, tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "kronecker"),
        ("labels", "observed"),
        ("smoothing", 0.0),
        ("base_model", "mistral"),
        ("base_revision", "def"),
        ("lora", replace(SHAPE, rank=8)),
    ],
)
def test_mismatched_information_is_neither_read_nor_added(tmp_path, field, value):
    information_file.save(information(), tmp_path / "f")
    with pytest.raises(FisherMismatch, match=field) as caught:
        ask(tmp_path / "f", **{field: value})
    for named in (getattr(information(), field), value):
        assert str(named.rank if field == "lora" else named) in str(caught.value)
    with pytest.raises(FisherMismatch, match=field):
        fisher.accumulate(information(**{field: value}), information(), sections.Fisher())


def test_a_file_without_fisher_information_is_rejected(tmp_path, adapter):
    (tmp_path / "short").write_bytes(b"12")
    for path in (tmp_path / "none", tmp_path / "short", adapter / "adapter_model.safetensors"):
        with pytest.raises(FisherMismatch, match=path.name):
            ask(path)


def stacked(pairs: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    roots = torch.rand(pairs, 4, 4, generator=generator)
    return {"layer.q.G": roots @ roots.mT, "layer.q.C": (roots.mT @ roots)[:, :3, :3].contiguous()}


def save_in_older_format(path, tensors):
    """Write a file in the older format, which could keep one pair of factors per week."""
    information_file.save(information(kind="kfac", tensors=tensors), path)


def test_an_older_file_is_read_as_one_pair(tmp_path):
    before = stacked(1)
    save_in_older_format(tmp_path / "dense", before)
    found = ask(tmp_path / "dense", kind="kronecker")
    assert found.kind == "kronecker"
    assert all(torch.equal(found.tensors[name], tensor[0]) for name, tensor in before.items())
    now = sketch.fitted(found.tensors, 100)
    save_in_older_format(tmp_path / "sketched", {name: tensor[None] for name, tensor in now.items()})
    again = ask(tmp_path / "sketched", kind="kronecker").tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in now.items())


def test_separate_pairs_in_an_older_file_are_merged(tmp_path):
    before = stacked(3)
    save_in_older_format(tmp_path / "list", before)
    found = ask(tmp_path / "list", kind="kronecker").tensors
    torch.testing.assert_close(found["layer.q.G"], before["layer.q.G"].sum(0))
    kept = torch.einsum("kii,kjj->", before["layer.q.G"], before["layer.q.C"])
    torch.testing.assert_close(found["layer.q.G"].trace() * found["layer.q.C"].trace(), kept)


def test_an_older_record_is_read_as_kronecker():
    record = FisherRecord("v1.0", "kfac", "sampled", "per_supervised_token", None, None, 0, 0)
    assert FisherRecord.from_json(record.to_json() | {"kind": "kfac"}).kind == "kronecker"


def test_weeks_are_added_with_decay():
    old = information(guards="v1.0", accumulated=("base",), n_tokens=7)
    new = information(accumulated=(), tensors={name: 2 * tensor for name, tensor in information().tensors.items()})
    both = fisher.accumulate(new, old, sections.Fisher(decay=0.25))
    assert (both.guards, both.accumulated, both.decay, both.n_tokens) == ("v1.1", ("base", "v1.0"), 0.25, 20)
    for name, tensor in both.tensors.items():
        torch.testing.assert_close(tensor, 2.25 * old.tensors[name])
