"""The sections of the configuration, with each setting's type, bounds and default.

`settings.py` loads them. The comments of the YAML file explain what each setting does.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from learning_engine import telemetry
from learning_engine.config.fields import (
    AttentionModule,
    Identifier,
    Name,
    RateOrAuto,
    SliceName,
    SlicePlace,
    StrengthOrAuto,
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Dag(Section):
    id_prefix: Name = "learning_engine"
    schedule: str = "0 2 * * 1"
    timezone: str = "UTC"
    start_date: date = date(2026, 1, 5)
    catchup: bool = False
    owner: str = "ml"
    tags: tuple[str, ...] = ("learning-engine",)
    retries: int = Field(2, ge=0, le=20)
    retry_delay_seconds: float = Field(60, ge=0, le=86_400)
    max_retry_delay_seconds: float = Field(1800, ge=0, le=86_400)
    step_timeout_minutes: float = Field(60, gt=0, le=10_080)
    train_timeout_minutes: float = Field(720, gt=0, le=10_080)
    turn_poll_seconds: float = Field(30, ge=1, le=3600)
    turn_timeout_hours: float = Field(72, gt=0, le=720)
    reconcile_minutes: float = Field(5, gt=0, le=1440)
    queue: Name = "default"
    train_queue: Name = "gpu"
    deploy_queue: Name = "default"
    train_pool: Name = "gpu"
    registry_pool: Name = "learning_engine_registry"
    on_failure: str | None = None
    on_failure_arguments: dict[str, Any] = Field(default_factory=dict)

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        from croniter import croniter

        if not croniter.is_valid(value):
            raise ValueError("expected a cron expression of five fields, such as '0 2 * * 1'")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from zoneinfo import available_timezones

        if value not in available_timezones():
            raise ValueError("expected an IANA time zone, such as 'UTC' or 'Europe/Berlin'")
        return value


class Connections(Section):
    feedback: Name = "learning_engine_feedback"
    store: Name = "learning_engine_store"
    serving: Name = "learning_engine_serving"


class WindowSection(Section):
    carry_over: bool = True
    max_days: float = Field(56, gt=0, le=3660)


class Columns(Section):
    request: Identifier = "request_data"
    response: Identifier = "response_data"
    feedback_type: Identifier = "feedback_type"
    created_at: Identifier = "created_at"
    user: Identifier | None = None
    conversation: Identifier | None = None


class Feedback(Section):
    source: Literal["postgres", "file"] = "postgres"
    path: str | None = None
    db_schema: Identifier = "public"
    table: Identifier = "feedback"
    columns: Columns = Columns()
    request_paths: tuple[str, ...] = ()
    response_paths: tuple[str, ...] = ()
    slices: dict[SliceName, SlicePlace] = Field(default_factory=dict, max_length=4)
    thumbs_up: tuple[str, ...] = ("thumbs_up", "thumbsup", "up", "like", "liked", "positive", "1", "+1", "👍")
    thumbs_down: tuple[str, ...] = ("thumbs_down", "thumbsdown", "down", "dislike", "disliked", "negative", "-1", "👎")
    cap_per_user: int | None = Field(None, ge=1)
    burst_votes: int | None = Field(60, ge=1, le=1_000_000)
    burst_minutes: float = Field(10, gt=0, le=10_080)
    min_agreement: float | None = Field(0.75, gt=0.5, le=1)
    max_characters: int = Field(100_000, ge=1, le=100_000_000)
    min_samples: int = Field(200, ge=1, le=100_000_000)
    timeout_seconds: float = Field(600, gt=0, le=86_400)

    @model_validator(mode="after")
    def _path(self) -> "Feedback":
        if self.source == "file" and not self.path:
            raise ValueError("feedback.source 'file' needs feedback.path, a .jsonl or .parquet file")
        return self


class Dataset(Section):
    max_tokens: int = Field(1024, ge=8, le=131_072)
    heldout_fraction: float = Field(0.1, ge=0.0, le=0.5)
    weight_up: float = Field(2.0, gt=0, le=100)
    weight_down: float = Field(0.5, ge=0, le=100)


class Model(Section):
    base: str = Field("meta-llama/Llama-3.1-8B-Instruct", min_length=1)
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|sha256:[0-9a-f]{16})$")] | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Lora(Section):
    rank: int = Field(16, ge=1, le=256)
    alpha: float = Field(32, gt=0, le=1024)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[AttentionModule, ...] = ("k_proj", "o_proj", "q_proj", "v_proj")

    @field_validator("target_modules")
    @classmethod
    def _canonical(cls, value: tuple[AttentionModule, ...]) -> tuple[AttentionModule, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("expected at least one module and no duplicates")
        return tuple(sorted(value))


class Fisher(Section):
    structure: Literal["diagonal", "kronecker"] = "kronecker"
    labels: Literal["sampled", "observed"] = "sampled"
    draws: int = Field(4, ge=1, le=64)
    smoothing: float = Field(0.1, ge=0, lt=1)
    decay: float = Field(1.0, ge=0, le=1)
    max_bytes: int = Field(4 * 1024**3, ge=1024)
    max_sequences: int = Field(2048, ge=1, le=1_000_000)
    batch_size: int = Field(16, ge=1, le=4096)
    anchor: str | None = "self"
    anchor_prompts: int = Field(400, ge=8, le=100_000)

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:
        """Older configurations say kfac for kronecker, and may contain `accumulation`, which has no effect now."""
        if not isinstance(values, dict):
            return values
        if "accumulation" in values:
            telemetry.warning("config.obsolete", setting="fisher.accumulation", advice="remove it: it has no effect")
        values = {name: value for name, value in values.items() if name != "accumulation"}
        return {**values, "structure": "kronecker"} if values.get("structure") == "kfac" else values

    @property
    def smoothing_of_labels(self) -> float:
        """The effective `smoothing`: observed labels are never smoothed."""
        return self.smoothing if self.labels == "sampled" else 0.0


class Ewc(Section):
    lambda_: StrengthOrAuto = Field("auto", alias="lambda")
    progress: float = Field(0.3, gt=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:
        """Older configurations may contain `kl_budget`, which has no effect now."""
        if not isinstance(values, dict) or "kl_budget" not in values:
            return values
        telemetry.warning("config.obsolete", setting="ewc.kl_budget", advice="remove it, or use ewc.progress")
        return {name: value for name, value in values.items() if name != "kl_budget"}


class Training(Section):
    objective: Literal["kto", "sft_npo", "weighted_sft"] = "sft_npo"
    kto_beta: float = Field(0.1, gt=0, le=10)
    epochs: float = Field(4.0, gt=0, le=1000)
    learning_rate: RateOrAuto = "auto"
    batch_size: int = Field(8, ge=1, le=4096)
    gradient_accumulation: int = Field(1, ge=1, le=4096)
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0, le=1000)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    replay: float = Field(0.5, ge=0, lt=1)
    replay_rows: int = Field(1000, ge=0, le=1_000_000)
    seed: int = Field(17, ge=0, lt=2**32)
    log_steps: int = Field(10, ge=1, le=100_000)
    checkpoint_steps: int = Field(200, ge=1, le=1_000_000)
    report_to: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _accept_old_replay(cls, values: Any) -> Any:
        """In older configurations `replay` is the number of rows kept of each window."""
        if not isinstance(values, dict):
            return values
        try:
            rows = float(values.get("replay", 0))
        except (TypeError, ValueError):
            return values
        if rows < 1 or not rows.is_integer():
            return values
        telemetry.warning(
            "config.obsolete",
            setting="training.replay",
            advice=f"it is a share of the rows now, at most 0.99: set it to 0.5 and training.replay_rows to {rows:.0f}",
        )
        return {"replay_rows": rows, **values, "replay": 0.5}


class Evaluation(Section):
    batch_size: int = Field(16, ge=1, le=4096)
    max_rows: int = Field(1000, ge=1, le=1_000_000)
    earlier_rows: int = Field(64, ge=1, le=1_000_000)
    prompts: str | None = None
    max_prompts: int = Field(24, ge=1, le=10_000)
    answer_tokens: int = Field(128, ge=2, le=4096)
    bootstrap: int = Field(2000, ge=100, le=100_000)
    probes: int = Field(4, ge=1, le=64)
    probe_tokens: int = Field(16, ge=1, le=128)
    probe_margin: float = Field(1.0, ge=0, le=20)


class Gate(Section):
    epsilon: float = Field(0.0, ge=0, le=10)
    min_taught: float | None = Field(0.5, ge=0, le=1)
    min_retained: float = Field(0.2, ge=-10, le=1)
    max_kl_parent: float = Field(1.0, ge=0, le=100)
    max_kl_base: float | None = Field(None, ge=0, le=100)
    max_base_rise: float | None = Field(0.1, ge=0, le=100)
    max_base_kl: float = Field(1.0, ge=0, le=100)
    max_margin_loss: float = Field(0.1, ge=0, le=100)
    max_disliked_rise: float | None = Field(0.05, ge=0, le=1)
    min_length_ratio: float = Field(0.5, ge=0, le=1)
    max_length_ratio: float = Field(2.0, ge=1, le=1000)
    min_heldout: int = Field(8, ge=1, le=1_000_000)
    min_users: int = Field(1, ge=1, le=1_000_000)


class Worker(Section):
    gpu_memory_fraction: float = Field(1.0, gt=0, le=1)


class Store(Section):
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "lora-adapters"
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*/?)*$")] = ""
    connect_timeout_seconds: float = Field(10, gt=0, le=600)
    read_timeout_seconds: float = Field(60, gt=0, le=3600)
    attempts: int = Field(5, ge=1, le=50)
    spool: str = Field("~/.cache/learning-engine", min_length=1)


class Retention(Section):
    text_days: float = Field(365, ge=0, le=36_500)
    runs_days: float = Field(30, ge=1, le=36_500)
    rejected_days: float = Field(180, ge=0, le=36_500)


class Watch(Section):
    max_rise: float | None = Field(None, gt=0, le=1)
    min_votes: int = Field(100, ge=1, le=1_000_000)
    hours: float = Field(72, gt=0, le=8760)


class Serving(Section):
    adapter_prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    max_lora_rank: int = Field(16, ge=1, le=1024)
    max_adapter_bytes: int = Field(4 * 1024**3, ge=1024)
    connect_timeout_seconds: float = Field(5, gt=0, le=600)
    request_timeout_seconds: float = Field(60, gt=0, le=3600)
    load_timeout_seconds: float = Field(120, gt=0, le=3600)
    drain_seconds: float = Field(120, ge=0, le=86_400)


class Web(Section):
    token: Annotated[SecretStr, Field(min_length=16)] | None = None
