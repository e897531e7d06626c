"""The model card of a version in a chain, with quarantined feedback."""

from dataclasses import replace

from markdown_it import MarkdownIt

from learning_engine.records.contracts import AdapterVersion
from learning_engine.records.report import Content, Kept, Slice, Summary
from learning_engine.registry import card
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.work import chain


def third(store: Store, registry: Registry) -> AdapterVersion:
    version = chain(store, registry, 3)[-1]
    report = replace(
        version.report,
        scores={"v1.0": 1.3, "v1.1": 1.2},
        drift_windows={"v1.0": 0.0123, "v1.1": 0.25},
        matrix={"v1.0": {"v1.0": 1.25}, "v1.1": {"v1.0": 1.5, "v1.1": 1.0}},
        summary=Summary(learned=1.117, forgotten=0.125, backward_transfer=-0.125),
        length_ratio=0.9,
        taught=Content(places=24, conversations=9, candidate=0.75, parent=0.125, base=0.0),
        kept={"v1.0": Kept(conversations=9, candidate=0.25, base=0.05, best=0.55, retained=0.4)},
        disliked_rise=0.3,
        heldout_conversations=17,
    )
    dataset = replace(version.dataset, quarantined={"burst": 1200, "contradictory": 4})
    return replace(version, report=report, dataset=dataset)


def test_the_matrix_has_one_row_per_version_and_one_column_per_window(
    mock_store: Store, mock_registry: Registry
) -> None:
    text = card.render(third(mock_store, mock_registry))
    table = [
        "| R | v1.0's window | v1.1's window | v1.2's window |",
        "| --- | --: | --: | --: |",
        "| v1.0 | 1.25 | – | – |",
        "| v1.1 | 1.5 | 1 | – |",
        "| v1.2 | 1.3 | 1.2 | 1.1 |",
    ]
    assert "\n".join(table) in text
    assert "| v1.0's window | 1.3 | 2 | 1.25 | 25 % | 40 % | 0.0123 |" in text
    assert "| 75 % |  |  |" in text


def test_the_matrix_of_a_long_chain_shows_only_the_last_versions(mock_store: Store, mock_registry: Registry) -> None:
    version = third(mock_store, mock_registry)
    rows = {f"v0.{number}": {f"v0.{number}": 1.0} for number in range(30)}
    text = card.render(replace(version, report=replace(version.report, matrix=rows)))
    assert "| R | v0.19's window |" in text
    assert "v0.18" not in text


def test_a_first_version_has_no_matrix(mock_store: Store, mock_registry: Registry) -> None:
    assert "| R |" not in card.render(chain(mock_store, mock_registry, 1)[0])


def test_the_card_shows_the_summary_of_the_chain(mock_store: Store, mock_registry: Registry) -> None:
    text = card.render(third(mock_store, mock_registry))
    assert "| Learned: mean loss on each window right after it | 1.117 |" in text
    assert "| Forgotten since the best of each window | 0.125 |" in text
    assert "| Backward transfer to earlier windows | -0.125 |" in text
    assert "| Length of greedy answers | 0.9 | times the parent's |" in text


def test_the_card_shows_what_was_taught_and_what_was_disliked(mock_store: Store, mock_registry: Registry) -> None:
    text = card.render(third(mock_store, mock_registry))
    assert "| Taught phrases that it says | 75 % | of 24; parent: 12 %, base: 0 % |" in text
    assert "| Disliked phrases that it says | – | none is held out |" in text
    assert "| Disliked answers became likelier by | 0.3 | nats per token than under the parent |" in text
    assert "| 17 conversations with liked answers |" in text


def test_replayed_rows_are_counted(mock_store: Store, mock_registry: Registry) -> None:
    version = third(mock_store, mock_registry)
    assert "Replayed" not in card.render(version)
    replayed = replace(version, training=replace(version.training, replayed=1200))
    assert "| Replayed | 1,200 of these, from earlier windows or the anchor |" in card.render(replayed)


def test_quarantined_rows_are_counted_by_reason(mock_store: Store, mock_registry: Registry) -> None:
    text = card.render(third(mock_store, mock_registry))
    assert "| set aside: burst | 1,200 |\n| set aside: contradictory | 4 |" in text


def test_an_older_version_without_these_figures_can_be_read(mock_store: Store, mock_registry: Registry) -> None:
    body = third(mock_store, mock_registry).to_json()
    for name in ("heldout_conversations", "drift_windows", "length_ratio", "matrix", "summary"):
        del body["report"][name]
    for name in ("quarantined", "quarantine_uri"):
        del body["dataset"][name]
    older = AdapterVersion.from_json(body)
    assert (older.report.matrix, older.report.summary, older.dataset.quarantined) == ({}, Summary(), {})
    assert "| R |" not in card.render(older)


def test_slices_are_shown_and_their_values_have_no_effect(mock_store: Store, mock_registry: Registry) -> None:
    evil = "|`<script>*![x](//evil)&lt;"
    version = third(mock_store, mock_registry)
    assert "fell" not in card.render(version)
    slices = [
        Slice("language", "de", 14, 2.1, 1.92, 3.0, 0.1, 0.5, 0.6, Content(9, 8, 0.75), retained=0.4, fell=True),
        Slice("language", "", 9),
        Slice("language", evil, 8),
    ]
    report = replace(version.report, slices=slices, notes=[f"language={evil} fell: loss 1.92 → 2.10"])
    text = card.render(replace(version, report=report))
    assert "| language=de | 14 | 2.1 | 1.92 | 3 | 0.5 | 0.6 | 75 % | 40 % | fell |" in text
    assert "| language=(none) | 9 | – | – | – | – | – | – | – |  |" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    escaped = "language=|`&lt;script&gt;*![x](//evil)&amp;lt;"
    assert f"<td>{escaped}</td>" in html
    assert f"<li>{escaped} fell: loss 1.92 → 2.10</li>" in html
