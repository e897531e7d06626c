"""Model cards: Markdown with the YAML front matter that model hubs and their tools read.

`render` makes the card of a published version, `archive_card` the short one inside its archive, which is packed before
there is a verdict. The only user text is the values of slices, if `feedback.slices` is set.
"""

import yaml

from learning_engine.records.contracts import AdapterVersion, Dataset, LoraShape
from learning_engine.registry import card_report
from learning_engine.registry.markdown import cell, code, number, table

TAGS = ["lora", "continual-learning", "elastic-weight-consolidation", "learning-engine"]
USE = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, "adapter")  # the unpacked adapter.tar.gz
```"""


def render(version: AdapterVersion) -> str:
    """The model card of a version: identity, gate, losses, feedback, training and use."""
    parent = version.parent or "the base model"
    verdict = "accepted" if version.accepted else "rejected"
    sections = [
        _front_matter(version.base_model, verdict),
        f"# {version.version} · {verdict}",
        f"A LoRA adapter of **{cell(version.base_model)}** that continues **{parent}**, trained on user feedback from "
        f"**{version.window}**.",
        _identity(version),
        "## The gate",
        card_report.gate(version.report.rules),
        card_report.notes(version.report.notes),
        "## Losses and retention",
        "Losses in nats per supervised token on feedback that no version was trained on; lower is better. "
        "*Kept* is the share of the best improvement over the base model by any version on the same feedback: of the "
        "phrases that it taught where there are enough, otherwise of the loss. *Taught* is the share of these phrases "
        "that the version says, *drift* the KL from the parent on the same answers.",
        card_report.losses(version),
        card_report.figures(version),
        card_report.matrix(version),
        card_report.slices(version.report.slices),
        "## Feedback",
        _feedback(version.dataset),
        "## Training",
        _training(version),
        "## Use",
        USE.format(base=version.base_model),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def archive_card(dataset: Dataset, base_model: str, lora: LoraShape) -> str:
    """The card inside the archive; identical for the same dataset, base model and LoRA shape."""
    facts = [
        ("Base model", code(base_model)),
        ("LoRA", _shape(lora)),
        ("Continues", dataset.parent or "the base model"),
        ("Window", str(dataset.window)),
        ("Run key", code(dataset.run_key)),
    ]
    return "\n\n".join(
        [
            _front_matter(base_model),
            "# LoRA adapter",
            "Trained by Learning Engine on user feedback, under an EWC penalty. Its version number, the gate's verdict "
            "and all figures are in the README.md next to its archive in the bucket.",
            table(("", ""), facts),
            USE.format(base=base_model) + "\n",
        ]
    )


def _front_matter(base_model: str, *tags: str) -> str:
    fields = {
        "base_model": base_model,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": [f"base_model:adapter:{base_model}", *TAGS, *tags],
    }
    return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) + "---"


def _identity(version: AdapterVersion) -> str:
    run = version.run
    by = f", triggered by {cell(run.triggered_by)}" if run.triggered_by else ""
    return table(
        ("", ""),
        [
            ("Base model", f"{code(version.base_model)} at revision {code(version.base_revision)}"),
            ("LoRA", _shape(version.lora)),
            ("Archive", f"`adapter.tar.gz`, {version.size:,} bytes, sha256 `{version.sha256}`"),
            ("Published", f"{version.created_at:%Y-%m-%d %H:%M} UTC"),
            ("Run", f"{code(run.run_id)} of {code(run.dag_id)} ({cell(run.run_type)}{by})"),
            ("Run key", code(version.run_key)),
        ],
    )


def _feedback(dataset: Dataset) -> str:
    users = "unknown" if dataset.users is None else f"{dataset.users:,}"
    tokens = "unknown" if dataset.tokens is None else f"{dataset.tokens:,}"
    dropped = [(f"dropped: {cell(reason)}", f"{count:,}") for reason, count in sorted(dataset.dropped.items())]
    quarantined = [(f"set aside: {cell(reason)}", f"{count:,}") for reason, count in dataset.quarantined.items()]
    return table(
        ("", ""),
        [
            ("rows read", f"{dataset.read:,}"),
            *dropped,
            *quarantined,
            ("**rows kept**", f"**{dataset.rows:,}**"),
            ("👍 / 👎", f"{dataset.thumbs_up:,} / {dataset.thumbs_down:,}"),
            ("users", users),
            ("conversations", f"{dataset.conversations:,}"),
            ("tokens", tokens),
            ("snapshot sha256", f"`{dataset.sha256}`"),
        ],
        right=(1,),
    )


def _training(version: AdapterVersion) -> str:
    training, fisher = version.training, version.fisher
    dropped = ", ".join(f"{count:,} {cell(reason)}" for reason, count in sorted(training.dropped.items()))
    information = f"{fisher.guards}: {fisher.kind}, {fisher.labels} labels, {fisher.n_sequences:,} sequences"
    if fisher.uri is None:
        information = cell(fisher.note) or "none"
    replayed = (
        [("Replayed", f"{training.replayed:,} of these, from earlier windows or the anchor")]
        if training.replayed
        else []
    )
    return table(
        ("", ""),
        [
            ("Task loss", f"{number(training.task_loss)} nats per supervised token (kto: in units of the weights)"),
            ("EWC loss at the last step", f"{number(training.ewc_loss)} (λ = {version.ewc_lambda:g})"),
            ("Fisher information of", information),
            ("Steps", f"{training.steps:,} over {training.examples:,} examples"),
            *replayed,
            ("Dropped rows", dropped or "none"),
            ("Time", f"{training.seconds:,.1f} s, {training.tokens_per_second:,.0f} tokens/s"),
            ("Device", f"{cell(training.device)}, {cell(training.precision)}"),
        ],
    )


def _shape(lora: LoraShape) -> str:
    return f"rank {lora.rank}, α {lora.alpha:g}, on {', '.join(lora.target_modules)}"
