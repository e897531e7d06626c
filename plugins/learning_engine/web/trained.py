"""The metrics of trainings: of the one that made the newest version, and of one that is under way. As in `figures`."""

from collections import Counter
from collections.abc import Mapping

from learning_engine.records.contracts import AdapterVersion, TrainingProgress
from learning_engine.web.figures import RULES, Figure, Number, known

# Of feedback.clean, feedback.steering and feedback.dataset.
REASONS = frozenset({
    "superseded", "bad_json", "no_prompt", "no_answer", "not_text", "unknown_role", "answer_in_prompt",
    "lone_surrogate", "null_character", "too_long", "bad_time", "unknown_thumb", "over_user_cap",
    "burst", "contradictory",
    "zero_weight", "special_token", "template_refused", "template_prefix", "answer_truncated",
})  # fmt: skip


def _by_reason(*counts: Mapping[str, int]) -> dict[str, Number]:
    found = Counter[str]()
    for reason, rows in ((reason, rows) for count in counts for reason, rows in count.items()):
        found[known(reason, REASONS)] += rows
    return {**found}


def _mean(values: Mapping[str, float]) -> Number:
    return sum(values.values()) / len(values) if values else None


# Each also has the label `version`.
NEWEST: tuple[Figure[AdapterVersion], ...] = (
    Figure("newest_accepted", "1 where the gate accepted the newest version, else 0.", lambda v: v.accepted),
    Figure(
        "newest_rule_passed",
        "1 for each rule of the gate that the newest version passed, else 0.",
        lambda v: {known(rule.name, RULES): rule.passed for rule in v.report.rules},
        ("rule",),
    ),
    Figure(
        "newest_created_seconds",
        "Unix time in seconds at which the newest version was published.",
        lambda v: v.created_at.timestamp(),
    ),
    Figure(
        "newest_window_end_seconds",
        "Unix time in seconds of the end of the newest version's window.",
        lambda v: v.window.end.timestamp(),
    ),
    Figure(
        "newest_heldout_loss",
        "Loss on liked held-out feedback of the newest window, in nats a token, by model (candidate, parent, base).",
        lambda v: {"candidate": v.report.loss, "parent": v.report.loss_parent, "base": v.report.loss_base},
        ("model",),
    ),
    Figure(
        "newest_retained_ratio",
        "What the newest version keeps of the best improvement on an earlier window, the least of all; 1: all of it.",
        lambda v: min(v.report.retained.values(), default=None),
    ),
    Figure(
        "newest_drift_nats",
        "KL to the newest version on fixed prompts, in nats a token, by what it is from (parent, base).",
        lambda v: {"parent": v.report.drift_parent, "base": v.report.drift_base},
        ("reference",),
    ),
    Figure(
        "newest_kl_nats",
        "KL to the newest version on earlier windows, in nats a token: predicted by the penalty, measured (the mean).",
        lambda v: {"predicted": v.training.predicted_kl, "measured": _mean(v.report.drift_windows)},
        ("kind",),
    ),
    Figure(
        "newest_task_loss",
        "Task loss at the end of the newest training, in nats a supervised token (kto: in units of the weights).",
        lambda v: v.training.task_loss,
    ),
    Figure(
        "newest_ewc_loss",
        "EWC penalty at the last step of the newest training, λ included, in the unit of the task loss.",
        lambda v: v.training.ewc_loss,
    ),
    Figure("newest_ewc_lambda", "λ at the last step of the newest training.", lambda v: v.ewc_lambda),
    Figure(
        "newest_samples",
        "Rows of feedback that the newest version was made from, held-out ones included, by rating (up, down).",
        lambda v: {"up": v.dataset.thumbs_up, "down": v.dataset.thumbs_down},
        ("rating",),
    ),
    Figure(
        "newest_dropped",
        "Rows of the newest window that were left out, by reason.",
        lambda v: _by_reason(v.dataset.dropped, v.training.dropped),
        ("reason",),
    ),
    Figure(
        "newest_quarantined",
        "Rows of the newest window that were set aside because they would steer, by reason.",
        lambda v: _by_reason(v.dataset.quarantined),
        ("reason",),
    ),
    Figure("newest_users", "Users behind the newest version, where they are known.", lambda v: v.dataset.users),
    Figure("newest_tokens", "Tokens that the newest training saw, those of each epoch.", lambda v: v.training.tokens),
    Figure("newest_training_seconds", "Seconds that the newest training took.", lambda v: v.training.seconds),
    Figure(
        "newest_tokens_per_second",
        "Tokens a second of the newest training.",
        lambda v: v.training.tokens_per_second,
    ),
    Figure(
        "newest_peak_memory_bytes",
        "The most bytes that the newest training held: of the GPU, or without one of the process.",
        lambda v: v.training.peak_memory_bytes,
    ),
    Figure(
        "newest_gpu_memory_bytes",
        "Bytes of the GPU that the newest training could have had, where there was one.",
        lambda v: v.training.device_memory_bytes,
    ),
    Figure(
        "newest_gpu_utilisation_ratio",
        "Mean share of time in which the GPU worked in the newest training, 0 to 1, where there was one.",
        lambda v: v.training.gpu_utilisation,
    ),
)

RUNNING: tuple[Figure[TrainingProgress], ...] = (
    Figure("training_step", "Optimizer steps that the running training has done.", lambda p: p.step),
    Figure("training_steps", "Optimizer steps that the running training has in all.", lambda p: p.of),
    Figure("training_task_loss", "Task loss of the running training, as newest_task_loss.", lambda p: p.task_loss),
    Figure("training_ewc_loss", "EWC penalty of the running training, as newest_ewc_loss.", lambda p: p.ewc_loss),
    Figure("training_learning_rate", "Learning rate of the running training.", lambda p: p.learning_rate),
    Figure("training_tokens_per_second", "Tokens a second of the running training.", lambda p: p.tokens_per_second),
    Figure("training_eta_seconds", "Seconds until the running training ends.", lambda p: p.eta_seconds),
    Figure(
        "training_peak_memory_bytes",
        "The most bytes that the running training has held, as newest_peak_memory_bytes.",
        lambda p: p.peak_memory_bytes,
    ),
    Figure(
        "training_gpu_utilisation_ratio",
        "Share of time in which the GPU works for the running training, 0 to 1, where there is one.",
        lambda p: p.gpu_utilisation,
    ),
)

# Of one that has stopped, too, so that somebody can be told.
STARTED: tuple[Figure[TrainingProgress], ...] = (
    Figure(
        "training_updated_seconds",
        "Unix time in seconds at which a training that is not done told something last; absent after a day.",
        lambda p: p.updated_at.timestamp(),
    ),
)
