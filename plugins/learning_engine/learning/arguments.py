"""Convert the training section of the configuration to transformers.TrainingArguments."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from learning_engine.config import sections
from learning_engine.errors import TrainingError

RATE, WIDTH, EXPONENT = 2e-3, 576, 0.78


def precision_of(training: sections.Training, device: torch.device) -> str:
    """fp32, bf16 or fp16. Raises TrainingError if the device does not support the configured precision."""
    if training.precision != "auto":
        if training.precision == "fp16" and device.type != "cuda":
            raise TrainingError(
                f"Expected a CUDA device for training.precision 'fp16', found {device.type}: use 'auto', 'bf16' or "
                "'fp32' on this worker"
            )
        return training.precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def learning_rate_of(training: sections.Training, *, width: int) -> float:
    """The configured learning rate, or for "auto" the one of a model of this `width`, its hidden size.

    RATE taught most in benchmarks/real.py, at the width of its model. Wider models need a smaller one; the exponent is
    that of Schulman et al., LoRA Without Regret, 2025, for models of the Llama family.
    """
    if training.learning_rate == "auto":
        return float(RATE * (WIDTH / width) ** EXPONENT)
    return training.learning_rate


def arguments_of(
    training: sections.Training,
    device: torch.device,
    precision: str,
    *,
    width: int,
    steps: int,
    parts: int,
    workdir: Path,
) -> TrainingArguments:
    """The TrainingArguments for a model of hidden size `width`.

    A batch of `training.batch_size` rows consists of `parts` micro-batches.
    """
    checkpointing: dict[str, Any] = {}
    if training.gradient_checkpointing:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    arguments = TrainingArguments(
        output_dir=str(workdir),
        max_steps=steps,
        learning_rate=learning_rate_of(training, width=width),
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation * parts,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=training.seed,
        logging_steps=training.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=1,
        eval_strategy="no",
        report_to=list(training.report_to) or "none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        **checkpointing,
    )
    # One process trains on one device; if it saw several, the Trainer would wrap the model in DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
