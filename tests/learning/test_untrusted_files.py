"""No content of a base model, an adapter or a checkpoint is run as code."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import ModelError
from learning_engine.learning import base as bases
from learning_engine.learning import model
from tests import tiny

LORA = sections.Lora()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("honest") / "base")


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """The file that hostile code would create."""
    return tmp_path / "evidence"


@pytest.fixture
def hostile(honest: Path, tmp_path: Path) -> Path:
    """A copy of the base model for tampering."""
    return Path(shutil.copytree(honest, tmp_path / "hostile"))


class Evil:
    """Creates the evidence when unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return Path.touch, (self.evidence,)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def load(base: Path, adapter: Path | None = None) -> Any:
    return model.load(sections.Model(base=str(base), device="cpu"), LORA, adapter=adapter, trainable=False, seed=0)


def test_unpickling_would_create_the_evidence(evidence: Path) -> None:
    torch.save(Evil(evidence), evidence.with_suffix(".bin"))
    torch.load(evidence.with_suffix(".bin"), weights_only=False)
    assert evidence.exists()


def test_a_base_models_pickle_is_not_run(hostile: Path, evidence: Path) -> None:
    (hostile / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Evil(evidence)}, hostile / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load(hostile)
    assert not evidence.exists()


def test_an_adapters_pickle_is_not_run(honest: Path, tmp_path: Path, evidence: Path) -> None:
    adapter = tiny.make_adapter(honest, tmp_path / "adapter", seed=1)
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"lora": Evil(evidence)}, adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="readable adapter"):
        load(honest, adapter)
    assert not evidence.exists()


@pytest.mark.parametrize("kind", ["llama", "evil"])
def test_a_base_models_own_code_is_not_run(hostile: Path, evidence: Path, kind: str) -> None:
    (hostile / "evil.py").write_text(f"open({str(evidence)!r}, 'w')\n")
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.T", "evil.T"]}
    change(hostile / "config.json", auto_map=classes, model_type=kind)
    change(hostile / "tokenizer_config.json", auto_map=classes)
    if kind == "llama":
        load(hostile)
    else:
        with pytest.raises(ModelError):
            load(hostile)
    assert not evidence.exists()


@pytest.mark.parametrize(
    "payload",
    [
        "cycler.__init__.__globals__.os.system('touch {}')",
        "''.__class__.__mro__[1].__subclasses__()",
        "messages.append('more')",
    ],
)
def test_a_chat_template_cannot_leave_its_sandbox(hostile: Path, evidence: Path, payload: str) -> None:
    template = "{{ " + payload.replace("{}", str(evidence)) + " }}"
    change(hostile / "tokenizer_config.json", chat_template=template)
    for file in hostile.glob("chat_template*"):
        file.write_text(template)
    tokenizer = bases.load_tokenizer(sections.Model(base=str(hostile)))
    assert payload[:12] in tokenizer.chat_template
    with pytest.raises(Exception, match=r"unsafe|undefined|has no attribute"):
        tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
    assert not evidence.exists()
