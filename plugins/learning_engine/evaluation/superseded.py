"""Rows of earlier windows that later feedback contradicts: nobody wants those answers back, so nothing judges by them.

A version's figures on a window count only the rows that were not superseded then. Figures on more rows cannot be
compared with them.
"""

from collections.abc import Iterable, Iterator

from learning_engine.records.contracts import AdapterVersion


def rows(ancestors: Iterable[AdapterVersion]) -> dict[str, set[int]]:
    """The superseded rows of each window's held-out set, by version."""
    found: dict[str, set[int]] = {}
    for version in ancestors:
        for window, superseded in version.report.superseded.items():
            found.setdefault(window, set()).update(superseded)
    return found


def comparable(ancestors: Iterable[AdapterVersion]) -> Iterator[tuple[AdapterVersion, frozenset[str]]]:
    """Each of the `ancestors`, youngest first, with the windows of which rows were superseded after it."""
    since: frozenset[str] = frozenset()
    for version in ancestors:
        yield version, since
        since |= version.report.superseded.keys()
