"""A complete evaluation of a candidate: figures, verdict, notes and probes."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from learning_engine.config import sections
from learning_engine.evaluation import matrix, sampling
from learning_engine.evaluation.earlier import Earlier
from learning_engine.evaluation.evaluate import Evaluation, evaluate
from learning_engine.evaluation.integrity import broken_weights
from learning_engine.evaluation.metrics import row_losses
from learning_engine.evaluation.prompts import read
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import Views, load_views
from learning_engine.records.contracts import LoraShape
from learning_engine.records.report import Report
from tests.evaluation.conftest import FIRST, LORA, SECOND, ask, encode

GATE = sections.Gate(min_heldout=4, max_kl_parent=50.0, min_retained=-10, min_length_ratio=0, max_length_ratio=100)
SETTINGS = sections.Evaluation(bootstrap=500, probe_tokens=12, probe_margin=0.5, answer_tokens=12)


def judged(views: Views, **changes: Any) -> Evaluation:
    """`changes` are arguments of evaluate or fields of Earlier; `earlier` are its rows."""
    wrong = encode(views.tokenizer, dict.fromkeys(SECOND, "white"), rating=-1)
    arguments: dict[str, Any] = {
        "views": views,
        "heldout": datasets.concatenate_datasets([encode(views.tokenizer, SECOND), wrong]),
        "content": Places([f"conversation {row}" for row in range(8)]),
        "users": 3,
        "anchor": None,
        "history": {"v1.0": {"v1.0": 0.1}},
        "prompts": read(None, limit=6),
        "probe_candidates": [ask(thing) for thing in SECOND],
        "evaluation": SETTINGS,
        "gate": GATE,
        "broken_weights": 0,
        "unservable": None,
        "run_key": "key",
        "seed": 1,
    }
    known: dict[str, Any] = {"rows": {"v1.0": encode(views.tokenizer, FIRST)}, "best": {"v1.0": 0.1}}
    if "earlier" in changes:
        known = {"rows": changes.pop("earlier"), "best": matrix.best(changes.get("history", arguments["history"]))}
    for name in ("places", "best_taught", "superseded", "retained", "missing"):
        if name in changes:
            known[name] = changes.pop(name)
    return evaluate(earlier=Earlier(**known), **(arguments | changes))


def rule(report: Report, name: str) -> Any:
    return next(found for found in report.rules if found.name == name)


def test_a_candidate_that_learned_is_accepted_with_its_probes(views: Views) -> None:
    found = judged(views)
    report = found.report
    assert report.accepted
    assert (report.run_key, report.heldout_rows) == ("key", 8)
    assert report.loss is not None
    assert report.loss_parent is not None
    assert report.loss < report.loss_parent / 10
    assert report.loss_base is not None
    assert 0 < report.gain_lower_bound <= report.loss_parent - report.loss
    assert report.margin > max(report.margin_parent, 0)
    assert report.drift_parent > 0
    assert report.notes == []
    assert 1 <= len(found.probes) <= SETTINGS.probes
    assert any(probe.messages == ask(thing) for probe in found.probes for thing in SECOND)


def test_losses_use_liked_rows_and_disliked_rows_affect_only_the_margin(views: Views) -> None:
    liked = row_losses(views, "candidate", encode(views.tokenizer, SECOND), batch_size=16).mean()
    disliked = encode(views.tokenizer, dict.fromkeys(SECOND, "white"), rating=-1)
    report = judged(views).report
    assert report.loss == pytest.approx(liked, rel=1e-5)
    assert report.margin == pytest.approx(
        row_losses(views, "candidate", disliked, batch_size=16).mean() - liked, rel=1e-5
    )
    assert rule(report, "heldout").figure == len(SECOND)


def test_retention_is_measured_against_the_best_version_and_the_base(views: Views) -> None:
    report = judged(views).report
    kept = (report.base_scores["v1.0"] - report.scores["v1.0"]) / (report.base_scores["v1.0"] - 0.1)
    assert report.retained == {"v1.0": pytest.approx(kept)}
    assert report.best == {"v1.0": 0.1}
    strict = judged(views, gate=GATE.model_copy(update={"min_retained": 1.0})).report
    assert not strict.accepted
    assert rule(strict, "retained").figure == report.retained["v1.0"]


def test_the_report_is_plain_json_without_user_text(views: Views) -> None:
    body = judged(views).report.to_json()
    text = json.dumps(body, allow_nan=False)
    assert Report.from_json(json.loads(text)).to_json() == body
    assert not any(word in text for word in ("What colour", "brown", *SECOND))


def test_evaluation_is_deterministic(views: Views) -> None:
    assert judged(views) == judged(views)


def test_a_first_version_is_judged_against_the_base(first: Views) -> None:
    report = judged(first, heldout=encode(first.tokenizer, FIRST), earlier={}, history={}).report
    assert report.accepted
    assert report.loss_parent == report.loss_base
    assert report.drift_parent == report.drift_base
    assert rule(report, "retained").why == "There is no earlier window yet."
    assert report.margin is None


def test_a_candidate_that_learned_nothing_is_rejected(views: Views) -> None:
    report = judged(views, heldout=encode(views.tokenizer, FIRST), earlier={}).report
    assert not report.accepted
    assert rule(report, "learned").figure < 0


def test_a_candidate_without_probes_is_noted_as_unproven(unchanged: Views) -> None:
    found = judged(unchanged)
    assert found.probes == []
    assert any(note.startswith("unproven: ") and "0.5 nats" in note for note in found.report.notes)
    assert rule(found.report, "learned").figure == 0.0
    assert found.report.drift_parent == pytest.approx(0.0, abs=1e-6)


def test_windows_that_cannot_be_judged_are_noted(views: Views) -> None:
    disliked = encode(views.tokenizer, FIRST, rating=-1)
    first, empty = encode(views.tokenizer, FIRST), datasets.Dataset.from_list([])
    report = judged(
        views,
        earlier={"v1.0": first, "v1.1": disliked, "v1.2": empty, "v1.3": first},
        history={"v1.0": {"v1.0": 0.1}, "v1.3": {"v1.3": 99.0}},
        missing=["v0.9"],
    ).report
    assert report.accepted
    assert set(report.retained) == {"v1.0"}
    assert set(report.scores) == {"v1.0", "v1.3"}
    for version in ("v0.9", "v1.1", "v1.2", "v1.3"):
        assert any(version in note for note in report.notes)
        assert version in rule(report, "retained").why


def test_an_earlier_window_without_a_known_best_is_measured_by_the_parent(views: Views) -> None:
    """Versions of older packages were judged on other rows."""
    rows = encode(views.tokenizer, FIRST)
    report = judged(views, history={}, earlier={"v1.0": rows}).report
    parent = row_losses(views, "parent", rows, batch_size=4).mean()
    assert report.best == {"v1.0": pytest.approx(parent, rel=1e-5)}
    assert rule(report, "retained").figure == report.retained["v1.0"]


def test_without_heldout_rows_and_prompts_the_gate_fails_closed(views: Views) -> None:
    report = judged(views, heldout=datasets.Dataset.from_list([]), prompts=[]).report
    assert not report.accepted
    assert {found.name for found in report.rules if not found.passed} == {"heldout", "learned", "drift", "length"}
    assert (report.heldout_rows, report.loss, report.gain_lower_bound, report.drift_parent) == (0, None, None, None)


def test_an_adapter_with_nan_fails_closed_and_its_report_is_valid_json(
    model: sections.Model, candidate: Path, parent: Path, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_bytes((candidate / "adapter_config.json").read_bytes())
    weights = load_file(candidate / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_B" in name)
    weights[name].fill_(np.nan)
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    shape = LoraShape(LORA.rank, LORA.alpha, LORA.target_modules)
    broken = broken_weights(tmp_path, shape)
    assert broken == weights[name].numel()
    assert broken_weights(candidate, shape) == 0
    found = judged(load_views(model, LORA, candidate=tmp_path, parent=parent), broken_weights=broken)
    json.dumps(found.report.to_json(), allow_nan=False)
    assert not found.report.accepted
    assert found.probes == []
    assert {"integrity", "finite", "learned", "retained", "drift"} <= {
        r.name for r in found.report.rules if not r.passed
    }
    assert (found.report.loss, found.report.scores, found.report.retained) == (None, {}, {})
    assert any("loss" in note for note in found.report.notes)


def test_an_adapter_that_the_server_would_reject_is_rejected(views: Views) -> None:
    report = judged(views, unservable="Rank 64 is more than the server's 16.").report
    assert not report.accepted
    assert rule(report, "servable").why == "Rank 64 is more than the server's 16."


def one_batch(views: Views) -> datasets.Dataset:
    """The rows of SECOND, numbered from 0."""
    rows = [encode(views.tokenizer, {thing: SECOND[thing]}) for thing in SECOND]
    return datasets.concatenate_datasets(rows).remove_columns("row").add_column("row", list(range(len(rows))))


def test_max_rows_limits_what_is_measured_of_a_window(views: Views) -> None:
    rows = one_batch(views)
    settings = SETTINGS.model_copy(update={"max_rows": 2})
    report = judged(views, heldout=rows, evaluation=settings, gate=GATE.model_copy(update={"min_heldout": 2})).report
    assert report.heldout_rows == 2
    drawn = sampling.sample(rows, 2)
    assert report.loss == pytest.approx(row_losses(views, "candidate", drawn, batch_size=4).mean(), rel=1e-5)


def test_a_window_chooses_the_rows_that_judge_later_versions(views: Views) -> None:
    """What was measured on them at first can be compared with what is measured later."""
    rows, few = one_batch(views), SETTINGS.model_copy(update={"earlier_rows": 2})
    first = judged(views, heldout=rows, evaluation=few)
    assert len(first.judging) == 2
    assert (first.report.sample.rows, first.report.sample.of) == (2, len(rows))
    places = Places([f"conversation {row}" for row in range(len(rows))], {}, first.judging)
    later = judged(views, earlier={"v1.0": rows}, places={"v1.0": places}, evaluation=few).report
    assert later.scores["v1.0"] == pytest.approx(first.report.sample.loss, rel=1e-5)
    many = judged(views, earlier={f"v1.{n}": rows for n in range(5)}, evaluation=few).report
    assert len(set(many.scores.values())) == 1, "the number of windows makes no difference"


def test_superseded_rows_judge_nothing_and_the_parent_gives_the_best_of_the_rest(views: Views) -> None:
    rows = one_batch(views)
    rest = rows.select(range(2, len(rows)))
    gone = {"superseded": {"v1.0": {0}}, "contradicted": {"v1.0": [1]}}
    losses = {view: row_losses(views, view, rest, batch_size=4).mean() for view in ("candidate", "parent", "base")}
    whole = judged(views, earlier={"v1.0": rows}, **gone).report
    assert whole.scores["v1.0"] == pytest.approx(losses["candidate"], rel=1e-5)
    assert whole.best["v1.0"] == pytest.approx(losses["parent"], rel=1e-5)
    assert whole.superseded == {"v1.0": [1]}
    assert (whole.matrix, whole.summary.forgotten) == ({"v1.0": {}}, None), "earlier losses are on other rows"
    assert "This window contradicts 1 held-out answers of v1.0: they judge nothing any more." in whole.notes
    half = judged(views, earlier={"v1.0": rows}, retained={"v1.0": 0.5}, **gone).report
    of_best = (losses["base"] - losses["parent"]) / (losses["base"] - half.best["v1.0"])
    assert of_best == pytest.approx(0.5, rel=1e-5), "a change of rows does not excuse what was lost before"
    before = judged(views, earlier={"v1.0": rows}, superseded={"v1.0": {0, 1}}).report
    assert (before.scores, before.best, before.superseded) == (whole.scores, {"v1.0": 0.1}, {})


def test_answers_of_one_conversation_count_once(views: Views) -> None:
    alone = judged(views, content=Places(["the same"] * 8)).report
    assert not alone.accepted
    assert (rule(alone, "heldout").figure, rule(alone, "learned").figure) == (1.0, None)
    pairs = judged(views, content=Places([f"conversation {row // 2}" for row in range(8)])).report
    assert rule(pairs, "heldout").figure == pairs.heldout_conversations == 2


def test_too_few_users_reject_the_candidate(views: Views) -> None:
    many = GATE.model_copy(update={"min_users": 4})
    report = judged(views, gate=many).report
    assert not report.accepted
    assert [(found.name, found.figure) for found in report.rules if not found.passed] == [("users", 3.0)]
    assert judged(views, gate=many, users=4).report.accepted


def test_a_shrinking_margin_is_rejected(views: Views) -> None:
    """The parent learned the answers that are liked here, and the candidate forgot some: the margin shrinks."""
    wrong = encode(views.tokenizer, SECOND, rating=-1)
    swapped = datasets.concatenate_datasets([encode(views.tokenizer, FIRST), wrong])
    lenient = GATE.model_copy(update={"epsilon": 10.0})
    report = judged(views, heldout=swapped, gate=lenient).report
    assert [found.name for found in report.rules if not found.passed] == ["margin"]
    assert rule(report, "margin").figure == report.margin_growth > report.margin - report.margin_parent
    assert judged(views, heldout=swapped, gate=lenient.model_copy(update={"max_margin_loss": 100.0})).report.accepted


def test_drift_on_earlier_windows_is_reported(views: Views, unchanged: Views) -> None:
    assert judged(views).report.drift_windows["v1.0"] > 0.001
    assert judged(unchanged).report.drift_windows == {"v1.0": pytest.approx(0.0, abs=1e-6)}


def test_the_report_contains_the_matrix_and_its_summary(views: Views) -> None:
    history = {"v0.9": {"v0.9": 0.3}, "v1.0": {"v0.9": 0.2, "v1.0": 0.1}}
    report = judged(views, history=history).report
    assert report.matrix == history
    assert report.summary.learned == pytest.approx((0.3 + 0.1 + report.sample.loss) / 3)
    assert report.summary.forgotten == pytest.approx(max(report.scores["v1.0"] - 0.1, 0))
    assert report.summary.backward_transfer == pytest.approx(0.1 - report.scores["v1.0"])
