"""Which old rows each epoch of a training replays: rows of earlier windows, and rows of the anchor.

An epoch has as many old rows as make up `share` of it, a quarter of them from the anchor. Where there are too few of
one kind, rows repeat, and more of the other kind take their places. But no old row comes more often in a training than
a row of the window itself, once an epoch: repeated further, a few hundred rows would be learned by heart, and nothing
more about what they stand for. Training on the same data four times, the default of `training.epochs`, teaches a
language model nearly as much as new data would; with further repetition its value decays to zero. Source: Muennighoff
et al., Scaling Data-Constrained Language Models, 2023.
"""

from dataclasses import dataclass

import numpy as np

# Of the old rows. Without a share of their own, the anchor's rows would be lost among those of fifty windows.
ANCHOR_SHARE = 0.25


def rows_to_replay(own: int, share: float) -> int:
    """How many replayed rows, next to `own` rows of the window, are `share` of all."""
    return round(own * share / (1 - share))


@dataclass(frozen=True)
class Replayed:
    """`of_windows` rows of earlier windows, then `of_anchor` rows of the anchor, next to a window's `own` rows."""

    own: int
    of_windows: int
    of_anchor: int
    share: float
    epochs: int

    @property
    def per_epoch(self) -> int:
        """How many old rows an epoch has."""
        return sum(self._places()) // self.epochs

    def order(self, seed: int) -> np.ndarray:
        """The old rows of all epochs, one after the other (epochs × per_epoch,), as indices from 0.

        Of each kind, no row comes again before every other one has come as often.
        """
        generator = np.random.default_rng(seed)
        shuffled = generator.permutation(self.of_windows + self.of_anchor)
        from_anchor = shuffled >= self.of_windows
        windows, anchor = self._places()
        places = from_anchor
        if windows > self.of_windows or anchor > self.of_anchor:
            places = generator.permutation(np.arange(windows + anchor) >= windows)
        places = places[: self.epochs * self.per_epoch]
        order = np.empty(len(places), np.int64)
        for kind in (False, True):
            order[places == kind] = np.resize(shuffled[from_anchor == kind], int((places == kind).sum()))
        return order

    def note(self) -> str | None:
        """What a reader of the report needs to know where the configured shares are not reached."""
        if self.per_epoch < rows_to_replay(self.own, self.share):
            found = self.per_epoch / (self.own + self.per_epoch)
            below = f"Replayed rows made up {found:.1%} of the training, below the {self.share:.1%} of training.replay"
            if not self.of_windows:
                return f"{below}: no row of an earlier window is kept, and {self.of_anchor} of the anchor were drawn."
            return (
                f"{below}: {self.of_windows} rows of earlier windows and {self.of_anchor} of the anchor are too few, "
                "since none is repeated more often than a row of this window. A higher training.replay_rows keeps more "
                "of each window, a higher fisher.anchor_prompts makes a larger anchor."
            )
        windows, anchor = self._places()
        if self.of_anchor and anchor < self._quarter:
            return (
                f"Rows of the anchor made up {anchor / (windows + anchor):.1%} of the replayed rows, below the "
                f"{ANCHOR_SHARE:.1%} meant for them: {self.of_anchor} are too few, since none is repeated more often "
                "than a row of this window. A higher fisher.anchor_prompts makes a larger anchor."
            )
        return None

    @property
    def _wanted(self) -> int:
        return self.epochs * rows_to_replay(self.own, self.share)

    @property
    def _quarter(self) -> int:
        return round(self._wanted * ANCHOR_SHARE)

    def _places(self) -> tuple[int, int]:
        """How many places in all epochs together rows of earlier windows take, and how many the anchor's."""
        most_of_windows, most_of_anchor = self.epochs * self.of_windows, self.epochs * self.of_anchor
        anchor = min(max(self._quarter, self._wanted - most_of_windows), most_of_anchor)
        return min(self._wanted - anchor, most_of_windows), anchor
