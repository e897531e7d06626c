import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from learning_engine.config import sections
from learning_engine.errors import ModelError
from learning_engine.learning import model
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.objectives import WeightedSft
from tests import tiny


def logits(some_model, examples) -> torch.Tensor:
    rows = Rows(examples)
    with torch.no_grad():
        return some_model(input_ids=collate([rows[0], rows[1]])["input_ids"]).logits


def test_a_new_adapter_gives_the_outputs_of_the_base(load, base, examples):
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    loaded = load()
    assert torch.equal(logits(loaded.model, examples), logits(plain, examples))
    weights = model.lora_weights(loaded.model)
    assert len(weights) == 2 * 4 * 2
    assert all((weight == 0).all() == (".lora_B." in name) for name, weight in weights.items())


def test_loading_writes_nothing_to_the_log(base):
    script = f"""
from learning_engine.config import sections
from learning_engine.learning import model
model.load(sections.Model(base={str(base)!r}), sections.Lora(), adapter=None, trainable=True, seed=1)
"""
    path = str(Path(model.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=path)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.stack
def test_a_new_adapter_depends_only_on_its_seed(base, load):
    script = f"""
import torch; torch.manual_seed(99); torch.rand(7)
from pathlib import Path
from learning_engine.config import sections
from learning_engine.learning import model
loaded = model.load(sections.Model(base={str(base)!r}), sections.Lora(), adapter=None, trainable=True, seed=5)
print(sum(weight.double().sum().item() for weight in model.lora_weights(loaded.model).values()).hex())
"""
    path = Path(__file__).parents[2] / "plugins"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=path)
    here = sum(weight.double().sum().item() for weight in model.lora_weights(load(seed=5).model).values())
    assert done.stdout.strip() == here.hex()
    other = sum(weight.double().sum().item() for weight in model.lora_weights(load(seed=6).model).values())
    assert other != here


def test_loading_leaves_the_random_state_unchanged(load, adapter):
    before = torch.random.get_rng_state()
    load()
    load(adapter)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_saved_adapter_loads_unchanged_in_peft_and_here(load, base, adapter, examples, tmp_path):
    loaded = load(adapter)
    model.save_adapter(loaded, tmp_path / "saved")
    model.save_adapter(load(tmp_path / "saved"), tmp_path / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft_model = PeftModel.from_pretrained(plain, str(tmp_path / "saved")).eval()
    assert torch.equal(logits(peft_model, examples), logits(loaded.model, examples))


def test_the_files_contain_only_what_max_serve_accepts(load, base, adapter, tmp_path):
    model.save_adapter(load(adapter), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    tensors = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == ("LORA", 16, 32, "none")
    assert (config["use_dora"], config["use_rslora"], config["modules_to_save"]) == (False, False, None)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert config["inference_mode"] is True
    assert config["base_model_name_or_path"] == str(base)
    assert config["revision"].startswith("sha256:")


def test_only_the_adapter_is_trainable(load, adapter):
    for start in (None, adapter):
        trainable = {name for name, weight in load(start).model.named_parameters() if weight.requires_grad}
        assert len(trainable) == 16
        assert all("lora_" in name for name in trainable)
        assert not any(weight.requires_grad for weight in load(start, trainable=False).model.parameters())
    loaded = load()
    loaded.model.get_output_embeddings().weight.requires_grad_(True)
    with pytest.raises(ModelError, match="lm_head"):
        model.check_trainable(loaded.model, expected=set(model.lora_weights(loaded.model)))


def test_dropout_is_active_only_in_training(load, adapter, examples):
    loaded = load(adapter, lora={"dropout": 0.5})
    assert torch.equal(logits(loaded.model, examples), logits(loaded.model, examples))
    loaded.model.train()
    assert not torch.equal(logits(loaded.model, examples), logits(loaded.model, examples))


@pytest.mark.parametrize(("quantization", "layer"), [("4bit", "Linear4bit"), ("8bit", "Linear8bitLt")])
def test_adapters_on_quantised_bases_get_gradients(load, adapter, examples, quantization, layer):
    loaded = load(adapter, model={"quantization": quantization})
    assert type(loaded.model.base_model.model.model.layers[0].self_attn.q_proj.base_layer).__name__ == layer
    rows = Rows(examples)
    batch = collate([rows[index] for index in range(4)])
    loss = WeightedSft()(loaded.model, batch) / batch["supervised_weight"]
    loss.backward()
    exact = load(adapter)
    assert loss.item() == pytest.approx(
        (WeightedSft()(exact.model, batch) / batch["supervised_weight"]).item(), rel=0.02
    )
    for weight in model.lora_weights(loaded.model).values():
        assert weight.dtype == torch.float32
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


def test_bfloat16_bases_keep_float32_adapters(load, adapter):
    loaded = load(adapter, model={"dtype": "bfloat16"})
    assert loaded.model.get_output_embeddings().weight.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.lora_weights(loaded.model).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("lora", "expected", "found"),
    [
        ({"rank": 8}, "rank 8", "rank 16"),
        ({"alpha": 16}, "alpha 16", "alpha 32"),
        ({"target_modules": ("q_proj", "v_proj")}, "targets q_proj, v_proj", "targets k_proj, o_proj, q_proj, v_proj"),
    ],
)
def test_an_adapter_of_another_shape_is_rejected(load, adapter, lora, expected, found):
    with pytest.raises(ModelError, match=rf"{expected}.*found.*{found}"):
        load(adapter, lora=lora)


def test_an_adapter_of_another_base_is_rejected(load, tmp_path):
    wide = tiny.make_base(tmp_path / "wide", hidden_size=32)
    deep = tiny.make_base(tmp_path / "deep", num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"\(16, 64\), found \(16, 32\)"):
        load(tiny.make_adapter(wide, tmp_path / "a", seed=0))
    with pytest.raises(ModelError, match=r"16 LoRA weights.*found 8"):
        load(tiny.make_adapter(deep, tmp_path / "b", seed=0))


def test_unreadable_adapters_are_rejected(load, adapter, tmp_path):
    with pytest.raises(ModelError, match="readable adapter"):
        load(tmp_path / "none")
    shutil.copytree(adapter, tmp_path / "cut")
    weights = tmp_path / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="readable adapter"):
        load(tmp_path / "cut")
    shutil.copytree(adapter, tmp_path / "dora")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"use_dora": True}
    (tmp_path / "dora" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="use_dora"):
        load(tmp_path / "dora")


def test_a_missing_base_is_named(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no/such-model"):
        load(model={"base": "no/such-model"})
    with pytest.raises(ModelError, match="safetensors"):
        load(model={"base": str(tmp_path)})


def test_the_revision_of_a_directory_depends_on_its_content(base, tmp_path, monkeypatch):
    revision = model.base_revision(sections.Model(base=str(base)))
    assert revision.startswith("sha256:")
    assert len(revision) == len("sha256:") + 16
    shutil.copytree(base, tmp_path / "copy")
    copied = sections.Model(base=str(tmp_path / "copy"))
    assert model.base_revision(copied) == revision
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert model.base_revision(copied) != revision
    monkeypatch.setattr("learning_engine.learning.base.WHOLE_FILES_BELOW", 0)
    large = model.base_revision(sections.Model(base=str(base)))
    assert model.base_revision(copied) != large
