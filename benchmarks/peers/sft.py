"""TRL's SFTTrainer on tokenised rows, in float32 on a CPU and bfloat16 on a GPU.

By default its loss avoids the full logits (formerly `chunked_nll`). `quick` is its best configuration for this data:
no gradient checkpointing, which is on by default and costs an extra forward pass per step. Padding-free batches and
packing need FlashAttention, which does not run on a CPU.
"""

from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from tests import tiny


def train(
    model: Any,
    examples: Any,
    *,
    order: str,
    quick: bool,
    batch: int,
    learning_rate: float,
    seed: int,
    device: str,
    workdir: Path,
) -> None:
    """One epoch of `examples`; `order` is transformers' `train_sampling_strategy`."""
    config = SFTConfig(
        output_dir=str(workdir),
        num_train_epochs=1,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        train_sampling_strategy=order,
        gradient_checkpointing=not quick,
        bf16=device == "cuda",
        use_cpu=device == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
        seed=seed,
    )
    rows = examples.select_columns(["input_ids", "labels"])
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tiny.make_tokenizer())
    trainer.train()
    model.eval()
