"""Rows of earlier windows that later feedback contradicts: nobody wants those answers back, so nothing judges by them.

A version's figures on a window count only the rows that were not superseded then. Figures on more rows cannot be
compared with them.
"""

from collections.abc import Callable, Iterable, Iterator

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


def best(
    ancestors: Iterable[AdapterVersion],
    reached: Callable[[AdapterVersion], Iterable[tuple[str, float | None]]],
    better: Callable[[float, float], float],
) -> dict[str, float]:
    """By window, the best figure that any of the `ancestors` `reached` on the rows that still judge it.

    Versions that did not choose these rows were judged on others; their figures are left out.
    """
    found: dict[str, float] = {}
    for version, changed in comparable(ancestors):
        if version.report.sample is None:
            continue
        for window, figure in reached(version):
            if figure is not None and window not in changed:
                found[window] = better(figure, found.get(window, figure))
    return found
