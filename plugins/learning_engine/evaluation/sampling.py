"""Choose the rows that are measured: of a large set some, and of each window those that judge later versions."""

from collections import Counter
from collections.abc import Sequence

import datasets
import numpy as np


def sample(examples: datasets.Dataset, limit: int) -> datasets.Dataset:
    """At most `limit` rows in their order, drawn alike each time; a lower limit gives some of the same rows."""
    if len(examples) <= limit:
        return examples
    return examples.select(np.sort(np.random.default_rng(0).permutation(len(examples))[:limit]))


def judging(conversations: Sequence[str], teaches: Sequence[bool], limit: int) -> list[int]:
    """At most `limit` rows, in order: first those that hold something taught, `teaches`, of these one of each
    conversation, otherwise by chance, alike each time.

    Later versions are compared on the same rows for a year, so that a share that is left of a window means the same in
    each week and the number of windows does not change it.
    """
    ranks = np.random.default_rng(0).permutation(len(conversations)).tolist()
    order = sorted(range(len(conversations)), key=lambda row: (not teaches[row], ranks[row]))
    earlier, nth = Counter[str](), dict[int, int]()
    for row in order:
        nth[row] = earlier[conversations[row]]
        earlier[conversations[row]] += 1
    return sorted(sorted(order, key=lambda row: (not teaches[row], nth[row]))[:limit])
