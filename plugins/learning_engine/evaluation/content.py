"""Find the tokens of held-out answers that carry content: what answers on the same subject say, and others do not.

A model learns the form of answers first, and the form has most of the tokens, so a loss can halve while not one fact is
learned. A token of a held-out answer is content if
  - the row's own question does not contain it;
  - most of the training answers of the same rating on the same subject, two or more, contain it, so it can be learned
    from them;
  - few of the training answers on the most similar other subjects contain it, so it is not their common form;
  - for a disliked answer: most liked training answers on the same subject do not contain it.
Training rows are on the same subject if their similarity is at least SAME. The similarity of two rows is the cosine of
their tf-idf weights, tf · log(N / df), over the tokens of the last user message and the answer (Salton and Buckley,
Term-weighting approaches in automatic text retrieval, 1988). The token in question does not count, so a row cannot
become similar by it. Tokens are compared by the words that they are part of. How often a fact is taught, and how many
others are, makes no difference, but it must be at least twice, and there must be other subjects to compare with.
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
# So many of the most similar rows on the same subject are asked, as far as their similarity is close to the highest,
# but at least two: what one row says may be chance.
ASKED, CLOSE, LEAST = 5, 0.8, 2
# A token is common form if more than this share of so many of the most similar rows on other subjects contain it.
CONTRASTED, COMMON = 10, 0.3
MOST = 0.5
# How tokenizers write a leading space.
SPACES = "Ġ▁"
TINY = 1e-9


@dataclass(frozen=True)
class Row:
    """The token ids of the last user message, of the supervised answer, and of the whole prompt; and the rating."""

    question: list[int]
    answer: list[int]
    rating: int
    prompt: tuple[int, ...] = ()


def rows_of(tokenizer: Any, examples: datasets.Dataset, questions: Sequence[str]) -> list[Row]:
    """The rows of encoded `examples`, whose column `row` is an index into `questions`."""
    if not len(examples):
        return []
    columns = examples.with_format(None)[:]
    asked = tokenizer([questions[row] for row in columns["row"]], add_special_tokens=False, verbose=False)["input_ids"]
    answers = [[label for label in labels[1:] if label != IGNORED] for labels in columns["labels"]]
    prompts = [tuple(ids[: len(ids) - len(answer)]) for ids, answer in zip(columns["input_ids"], answers, strict=True)]
    return [Row(*found) for found in zip(asked, answers, columns["rating"], prompts, strict=True)]


def places(tokenizer: Any, training: Sequence[Row], heldout: Sequence[Row]) -> list[list[int]]:
    """For each held-out row, the places of content among the tokens of its answer, counted from 0."""
    words = _Words(tokenizer)
    index = _Index([(words(row.question), words(row.answer)) for row in training])
    liked = np.array([row.rating > 0 for row in training], dtype=bool)

    def is_content(row: Row, similarity: Floats, says: Mask) -> bool:
        same = similarity >= SAME
        others = _nearest(similarity, ~same, CONTRASTED)
        if not len(others) or says[others].mean() > COMMON:
            return False
        likes, dislikes = (_agreement(similarity, says, same & rated) for rated in (liked, ~liked))
        return likes > MOST if row.rating > 0 else dislikes > MOST >= likes

    return [
        [
            place
            for place, similarity, says in index.similarities(words(row.question), words(row.answer))
            if says.any() and is_content(row, similarity, says)
        ]
        for row in heldout
    ]


def contradicted(
    tokenizer: Any, rated: Sequence[Row], heldout: Sequence[Row], taught: Sequence[Sequence[int]]
) -> list[bool]:
    """Whether later feedback, `rated`, contradicts each liked held-out row of an earlier window, which has the `taught`
    places: most answers to the same prompt that are liked now do not say all of it; or none is liked, and most of those
    that are disliked say it.

    Only equal prompts count. Similar ones may ask about something else, and what is contradicted judges no version.
    """
    words, answers = _Words(tokenizer), defaultdict[tuple[int, ...], list[Row]](list)
    for row in rated:
        answers[row.prompt].append(row)

    def is_contradicted(row: Row, places: Sequence[int]) -> bool:
        now = answers.get(row.prompt, [])
        liked = [other for other in now if other.rating > 0]
        # Another tokenizer may have made fewer tokens of the same answer.
        said = {word for place, word in enumerate(words(row.answer)) if place in places}
        agree = [said <= set(words(other.answer)) for other in liked or now]
        against = agree.count(False) if liked else agree.count(True)
        return against > MOST * len(agree)

    return [is_contradicted(row, places) for row, places in zip(heldout, taught, strict=True)]


def _agreement(similarity: Floats, says: Mask, among: Mask) -> float:
    """The share of the most similar rows `among` that contain the token; 0 if there are fewer than LEAST."""
    rows = _nearest(similarity, among, ASKED)
    if len(rows) < LEAST:
        return 0.0
    bound = min(CLOSE * similarity[rows].max(), np.sort(similarity[rows])[-LEAST])
    return float(says[rows[similarity[rows] >= bound]].mean())


def _nearest(similarity: Floats, among: Mask, count: int) -> Ids:
    """The `count` most similar rows `among`, in no order, or all if there are fewer; of equal ones the first."""
    rows = np.flatnonzero(among)
    if len(rows) <= count:
        return rows
    bound = np.partition(similarity[rows], -count)[-count]
    above = rows[similarity[rows] > bound]
    return np.concatenate([above, rows[similarity[rows] == bound][: count - len(above)]])


class _Words:
    """Turns tokens into ids of the words that they are part of, in lower case.

    A word is a token and the ASCII letters and digits that follow without a space: a name or a number is one word,
    however it is split. Other scripts do not mark words with spaces; there each token is one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {}

    def __call__(self, tokens: Sequence[int]) -> list[int]:
        words: list[list[str]] = []
        continues = False
        for token in self.tokenizer.convert_ids_to_tokens(tokens):
            text = token.lstrip(SPACES)
            is_part = text.isascii() and text.isalnum()
            if continues and is_part and text == token:
                words[-1].append(text)
            else:
                words.append([text])
            continues = is_part
        # In byte-level vocabularies other letters stand for bytes, which have no case.
        texts = [text.lower() if (text := "".join(word)).isascii() else text for word in words]
        ids = [self.ids.setdefault(text, len(self.ids)) for text in texts]
        return [id for word, id in zip(words, ids, strict=True) for _ in word]


class _Index:
    """The tf-idf weights of N training rows, by word."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        """`rows` are questions and answers in words."""
        self.rows = len(rows)
        self.answers = _postings(answer for _, answer in rows)
        counted = _postings(question + answer for question, answer in rows)
        self.idf = {word: math.log(self.rows / len(at)) for word, (at, _) in counted.items()}
        self.weights = {word: (at, count * self.idf[word]) for word, (at, count) in counted.items()}
        self.squares = np.zeros(self.rows)
        for at, weight in self.weights.values():
            self.squares[at] += weight**2

    def similarities(self, question: list[int], answer: list[int]) -> Iterator[tuple[int, Floats, Mask]]:
        """The places in `answer` of words that are not in `question`, each with the similarity of all training rows,
        and whether their answers contain the word; both (N,)."""
        own = {word: count * self.idf[word] for word, count in Counter(question + answer).items() if word in self.idf}
        products = np.zeros(self.rows)
        for word, weight in own.items():
            at, weights = self.weights[word]
            products[at] += weight * weights
        square = sum(weight**2 for weight in own.values())
        cosines = _ratio(products, self.squares)
        for place, word in enumerate(answer):
            if word in question:
                continue
            similarity, says = cosines.copy(), np.zeros(self.rows, dtype=bool)
            if word in own:
                at, weights = self.weights[word]
                similarity[at] = _ratio(products[at] - own[word] * weights, self.squares[at] - weights**2)
            if word in self.answers:
                says[self.answers[word][0]] = True
            similarity /= math.sqrt(max(square - own.get(word, 0.0) ** 2, TINY))
            yield place, similarity, says


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
