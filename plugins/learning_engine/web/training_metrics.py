"""Definitions of the metrics of the newest version's training and of the running one. See `metric_definitions`."""

from collections import Counter
from collections.abc import Mapping

from learning_engine.records.contracts import AdapterVersion, TrainingProgress
from learning_engine.web.metric_definitions import RULES, MetricDefinition, Number, known

# Defined in feedback.clean, feedback.steering and feedback.dataset.
REASONS = frozenset({
    "superseded", "bad_json", "no_prompt", "no_answer", "not_text", "unknown_role", "answer_in_prompt",
    "lone_surrogate", "null_character", "too_long", "bad_time", "unknown_thumb", "over_user_cap",
    "burst", "contradictory",
    "zero_weight", "special_token", "template_refused", "template_prefix", "answer_truncated",
    "prompt_too_long",
})  # fmt: skip


def _by_reason(*counts: Mapping[str, int]) -> dict[str, Number]:
    found = Counter[str]()
    for reason, rows in ((reason, rows) for count in counts for reason, rows in count.items()):
        found[known(reason, REASONS)] += rows
    return {**found}


def _mean(values: Mapping[str, float]) -> Number:
    return sum(values.values()) / len(values) if values else None


# Each of these also has the label `version`.
NEWEST: tuple[MetricDefinition[AdapterVersion], ...] = (
    MetricDefinition("newest_accepted", "1 if the gate accepted the newest version, else 0.", lambda v: v.accepted),
    MetricDefinition(
        "newest_rule_passed",
        "1 for each gate rule that the newest version passed, else 0.",
        lambda v: {known(rule.name, RULES): rule.passed for rule in v.report.rules},
        ("rule",),
    ),
    MetricDefinition(
        "newest_created_seconds",
        "Unix time in seconds at which the newest version was published.",
        lambda v: v.created_at.timestamp(),
    ),
    MetricDefinition(
        "newest_window_end_seconds",
        "Unix time in seconds of the end of the newest version's window.",
        lambda v: v.window.end.timestamp(),
    ),
    MetricDefinition(
        "newest_heldout_loss",
        "Loss on liked held-out feedback of the newest window, in nats per token, by model (candidate, parent, base).",
        lambda v: {"candidate": v.report.loss, "parent": v.report.loss_parent, "base": v.report.loss_base},
        ("model",),
    ),
    MetricDefinition(
        "newest_retained_ratio",
        "Share of what earlier windows taught that the newest version retains, minimum over them; 1: all of it.",
        lambda v: min(v.report.shares_retained().values(), default=None),
    ),
    MetricDefinition(
        "newest_taught_ratio",
        "Share of the phrases that the newest window taught which a model says, by model.",
        lambda v: {
            "candidate": v.report.taught.candidate,
            "parent": v.report.taught.parent,
            "base": v.report.taught.base,
        },
        ("model",),
    ),
    MetricDefinition(
        "newest_base_ratio",
        "Share of the next tokens in the base model's own conversations that the newest version still chooses alike.",
        lambda v: v.report.manners.left,
    ),
    MetricDefinition(
        "newest_drift_nats",
        "KL divergence of the newest version on answers to fixed prompts, in nats per token, by model (parent, base).",
        lambda v: {"parent": v.report.drift_parent, "base": v.report.drift_base},
        ("reference",),
    ),
    MetricDefinition(
        "newest_kl_nats",
        "KL divergence of the newest version on earlier windows, in nats per token, by kind: measured (mean).",
        lambda v: {"measured": _mean(v.report.drift_windows)},
        ("kind",),
    ),
    MetricDefinition(
        "newest_task_loss",
        "Task loss at the end of the newest training, in nats per supervised token (kto: in units of the weights).",
        lambda v: v.training.task_loss,
    ),
    MetricDefinition(
        "newest_ewc_loss",
        "EWC penalty at the last step of the newest training, λ included, in the unit of the task loss.",
        lambda v: v.training.ewc_loss,
    ),
    MetricDefinition("newest_ewc_lambda", "λ at the last step of the newest training.", lambda v: v.ewc_lambda),
    MetricDefinition(
        "newest_samples",
        "Feedback rows of the newest version, including held-out ones, by rating (up, down).",
        lambda v: {"up": v.dataset.thumbs_up, "down": v.dataset.thumbs_down},
        ("rating",),
    ),
    MetricDefinition(
        "newest_dropped",
        "Rows of the newest window that were dropped, by reason.",
        lambda v: _by_reason(v.dataset.dropped, v.training.dropped),
        ("reason",),
    ),
    MetricDefinition(
        "newest_quarantined",
        "Rows of the newest window that were quarantined as suspected manipulation, by reason.",
        lambda v: _by_reason(v.dataset.quarantined),
        ("reason",),
    ),
    MetricDefinition(
        "newest_users", "Users whose feedback the newest version learned from, if known.", lambda v: v.dataset.users
    ),
    MetricDefinition(
        "newest_tokens", "Tokens that the newest training processed, over all epochs.", lambda v: v.training.tokens
    ),
    MetricDefinition("newest_training_seconds", "Seconds that the newest training took.", lambda v: v.training.seconds),
    MetricDefinition(
        "newest_tokens_per_second",
        "Tokens per second of the newest training.",
        lambda v: v.training.tokens_per_second,
    ),
    MetricDefinition(
        "newest_peak_memory_bytes",
        "Peak memory in bytes of the newest training: GPU memory, or process memory without a GPU.",
        lambda v: v.training.peak_memory_bytes,
    ),
    MetricDefinition(
        "newest_gpu_memory_bytes",
        "GPU memory in bytes that was available to the newest training, if it used a GPU.",
        lambda v: v.training.device_memory_bytes,
    ),
    MetricDefinition(
        "newest_gpu_utilisation_ratio",
        "Mean GPU utilisation of the newest training, 0 to 1, if it used a GPU.",
        lambda v: v.training.gpu_utilisation,
    ),
)

RUNNING: tuple[MetricDefinition[TrainingProgress], ...] = (
    MetricDefinition("training_step", "Optimizer steps that the running training has completed.", lambda p: p.step),
    MetricDefinition("training_steps", "Total optimizer steps of the running training.", lambda p: p.of),
    MetricDefinition(
        "training_task_loss",
        "Task loss of the running training, in the unit of newest_task_loss.",
        lambda p: p.task_loss,
    ),
    MetricDefinition(
        "training_ewc_loss",
        "EWC penalty of the running training, in the unit of newest_ewc_loss.",
        lambda p: p.ewc_loss,
    ),
    MetricDefinition("training_learning_rate", "Learning rate of the running training.", lambda p: p.learning_rate),
    MetricDefinition(
        "training_tokens_per_second", "Tokens per second of the running training.", lambda p: p.tokens_per_second
    ),
    MetricDefinition(
        "training_eta_seconds", "Estimated seconds until the running training ends.", lambda p: p.eta_seconds
    ),
    MetricDefinition(
        "training_peak_memory_bytes",
        "Peak memory in bytes of the running training, as newest_peak_memory_bytes.",
        lambda p: p.peak_memory_bytes,
    ),
    MetricDefinition(
        "training_gpu_utilisation_ratio",
        "GPU utilisation of the running training, 0 to 1, if it uses a GPU.",
        lambda p: p.gpu_utilisation,
    ),
)

# Also exported for a training that has stopped, so that an alert can fire.
STARTED: tuple[MetricDefinition[TrainingProgress], ...] = (
    MetricDefinition(
        "training_updated_seconds",
        "Unix time in seconds of the last progress report of an unfinished training; absent after a day.",
        lambda p: p.updated_at.timestamp(),
    ),
)
