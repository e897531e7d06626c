"""Find the tokens of held-out answers that carry content: what answers on the same subject say, and others do not.

A model learns the form of answers first, and the form has most of the tokens, so a loss can halve while not one fact is
learned. A token of a held-out answer is content if
  - few of the window's N training answers contain it: at most √N of them, or two;
  - the row's own question does not contain it;
  - the most similar training row of the same rating contains it in its answer, with a similarity of at least SAME;
  - for a disliked answer: the most similar liked training row does not contain it.
The similarity of two rows is the cosine of their tf-idf weights, tf · log(N / df), over the tokens of the last user
message and the answer (Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988). The token in
question does not count, so a row cannot become similar by it. Tokens that differ only in a leading space or in case
are the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from learning_engine.learning.batches import IGNORED

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Below this cosine two rows are on different subjects.
SAME = 0.5
# How tokenizers write a leading space.
SPACES = "Ġ▁"
TINY = 1e-9


@dataclass(frozen=True)
class Row:
    """The token ids of the last user message, those of the supervised answer, and the rating."""

    question: list[int]
    answer: list[int]
    rating: int


def rows_of(tokenizer: Any, examples: datasets.Dataset, questions: Sequence[str]) -> list[Row]:
    """The rows of encoded `examples`, whose column `row` is an index into `questions`."""
    if not len(examples):
        return []
    columns = examples.with_format(None)[:]
    asked = tokenizer([questions[row] for row in columns["row"]], add_special_tokens=False, verbose=False)["input_ids"]
    answers = [[label for label in labels[1:] if label != IGNORED] for labels in columns["labels"]]
    return [Row(*found) for found in zip(asked, answers, columns["rating"], strict=True)]


def places(tokenizer: Any, training: Sequence[Row], heldout: Sequence[Row]) -> list[list[int]]:
    """For each held-out row, the places of content among the tokens of its answer, counted from 0."""
    words = _Words(tokenizer)
    index = _Index([(words(row.question), words(row.answer)) for row in training])
    liked = np.array([row.rating > 0 for row in training], dtype=bool)

    def is_content(row: Row, similarity: Floats, says: Ids) -> bool:
        if row.rating > 0:
            return _most_similar_says(similarity, says, liked)
        return _most_similar_says(similarity, says, ~liked) and not _most_similar_says(similarity, says, liked)

    return [
        [
            place
            for place, similarity, says in index.candidates(words(row.question), words(row.answer))
            if is_content(row, similarity, says)
        ]
        for row in heldout
    ]


def _most_similar_says(similarity: Floats, says: Ids, among: Mask) -> bool:
    """Whether the most similar of the training rows `among` contains the token; of equally similar ones, any."""
    best = np.max(similarity, where=among, initial=0.0)
    return bool(best >= SAME and (among[says] & (similarity[says] >= best - TINY)).any())


class _Words:
    """Turns token ids into ids that are equal for tokens that differ only in a leading space or in case."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {}
        self.known: dict[int, int] = {}

    def __call__(self, tokens: Sequence[int]) -> list[int]:
        for token in set(tokens):
            if token in self.known:
                continue
            text = self.tokenizer.convert_ids_to_tokens(token).lstrip(SPACES)
            # In byte-level vocabularies other letters stand for bytes, which have no case.
            self.known[token] = self.ids.setdefault(text.lower() if text.isascii() else text, len(self.ids))
        return [self.known[token] for token in tokens]


class _Index:
    """The tf-idf weights of N training rows, by word."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        """`rows` are questions and answers in words."""
        self.rows = len(rows)
        self.few = max(2, math.isqrt(self.rows))
        self.answers = _postings(answer for _, answer in rows)
        counted = _postings(question + answer for question, answer in rows)
        self.idf = {word: math.log(self.rows / len(at)) for word, (at, _) in counted.items()}
        self.weights = {word: (at, count * self.idf[word]) for word, (at, count) in counted.items()}
        self.squares = np.zeros(self.rows)
        for at, weight in self.weights.values():
            self.squares[at] += weight**2

    def candidates(self, question: list[int], answer: list[int]) -> Iterator[tuple[int, Floats, Ids]]:
        """The places in `answer` of words that few training answers and not the question contain, each with the
        similarity of all training rows (N,) and the rows whose answers contain the word."""
        own = {word: count * self.idf[word] for word, count in Counter(question + answer).items() if word in self.idf}
        products = np.zeros(self.rows)
        for word, weight in own.items():
            at, weights = self.weights[word]
            products[at] += weight * weights
        square = sum(weight**2 for weight in own.values())
        cosines = _ratio(products, self.squares)
        for place, word in enumerate(answer):
            if word in question or word not in self.answers or len(self.answers[word][0]) > self.few:
                continue
            at, weights = self.weights[word]
            similarity = cosines.copy()
            similarity[at] = _ratio(products[at] - own[word] * weights, self.squares[at] - weights**2)
            similarity /= math.sqrt(max(square - own[word] ** 2, TINY))
            yield place, similarity, self.answers[word][0]


def _ratio(products: Floats, squares: Floats) -> Floats:
    """products / √squares, and 0 where a row has no weight."""
    ratio: Floats = np.divide(products, np.sqrt(squares.clip(min=0)), out=np.zeros(len(products)), where=squares > TINY)
    return ratio


def _postings(rows: Iterable[list[int]]) -> dict[int, tuple[Ids, Ids]]:
    """For each word, the rows that contain it and how often each does."""
    found = defaultdict[int, tuple[list[int], list[int]]](lambda: ([], []))
    for row, words in enumerate(rows):
        for word, count in Counter(words).items():
            at, counts = found[word]
            at.append(row)
            counts.append(count)
    return {word: (np.array(at), np.array(counts)) for word, (at, counts) in found.items()}
