"""The small town of the demo's facts: what each person grows, bakes, plays, keeps and mends.

The base model has learned all about the first twenty people; of the newcomers it knows only names and random rumours.
Six newcomers arrive every week, and users teach the model about them.
"""

import random
from dataclasses import dataclass

RESIDENTS = "Ada Bruno Clara Dora Emil Flora Gus Hedda Ivo Juno Karl Lena Milo Nora Otto Petra Quinn Rosa Silas Thea"
NEWCOMERS = (
    "Abel Bella Casper Delia Enzo Freya",
    "Greta Hugo Iris Jonas Kira Leo",
    "Mabel Nico Olive Pablo Ronja Sven",
    "Tilda Ulf Vera Wanda Yusuf Zelda",
)
OPENINGS = ("", "Hello! ", "Tell me: ", "One question: ", "Please help me. ", "I forgot. ", "Quick one: ", "Good day! ")
RUMOURS = 2
GREETINGS = (
    ("Say hello to {name}.", "Hello, {name}!"),
    ("Wish {name} a good day.", "Good day, {name}!"),
    ("Call {name}.", "{name}, are you there?"),
    ("Who is at the door? It is {name}.", "Come in, {name}!"),
)


@dataclass(frozen=True)
class Relation:
    """A kind of fact: the wording of the answer, its twenty values, and the ways to ask."""

    answer: str
    values: str
    questions: tuple[str, ...]


RELATIONS = (
    Relation(
        "{name} grows {value}.",
        "figs plums peas leeks pears beets melons roses tulips hops lemons mint basil quinces carrots onions pumpkins "
        "cherries beans dahlias",
        (
            "What does {name} grow?",
            "What is {name} growing?",
            "Which crop does {name} grow?",
            "What grows in the garden of {name}?",
        ),
    ),
    Relation(
        "{name} bakes {value}.",
        "scones tarts buns pretzels waffles muffins bagels pies biscuits brownies rolls crumpets eclairs strudel "
        "baguettes shortbread macaroons cupcakes flapjacks gingerbread",
        (
            "What does {name} bake?",
            "What is {name} baking?",
            "Which treat does {name} bake?",
            "What comes out of the oven of {name}?",
        ),
    ),
    Relation(
        "{name} plays the {value}.",
        "flute fiddle cello harp drum tuba banjo piano lute oboe horn viola zither bassoon trumpet guitar clarinet "
        "mandolin trombone accordion",
        (
            "What does {name} play?",
            "What is {name} playing?",
            "Which instrument does {name} play?",
            "What sounds from the window of {name}?",
        ),
    ),
    Relation(
        "{name} keeps a {value}.",
        "heron goat fox parrot tortoise pony raven ferret hen badger duck lynx mule goose rabbit hedgehog donkey "
        "falcon lizard peacock",
        (
            "What does {name} keep?",
            "What is {name} keeping?",
            "Which animal does {name} keep?",
            "What lives in the yard of {name}?",
        ),
    ),
    Relation(
        "{name} mends {value}.",
        "clocks kettles boats shoes bicycles lamps radios chairs umbrellas nets kites fences saddles windows barrels "
        "watches carts hats ladders dolls",
        (
            "What does {name} mend?",
            "What is {name} mending?",
            "Which things does {name} mend?",
            "What lies on the workbench of {name}?",
        ),
    ),
)


@dataclass(frozen=True)
class Fact:
    """One fact about one person."""

    name: str
    relation: Relation
    value: str

    @property
    def answer(self) -> str:
        return self.relation.answer.format(name=self.name, value=self.value)

    def wrong(self, rng: random.Random) -> str:
        """A well-formed but false answer."""
        other = rng.choice([value for value in self.relation.values.split() if value != self.value])
        return self.relation.answer.format(name=self.name, value=other)

    def phrasings(self) -> list[str]:
        """Every way to ask for this fact, in a fixed order."""
        return [opening + ask.format(name=self.name) for ask in self.relation.questions for opening in OPENINGS]


def base_facts() -> list[Fact]:
    """The hundred facts that the base model knows."""
    return _facts(RESIDENTS.split(), seed=0)


def week_facts(week: int) -> list[Fact]:
    """The thirty facts that week `week` (from 0) teaches."""
    return _facts(NEWCOMERS[week].split(), seed=week + 1)


def greetings() -> list[tuple[str, str]]:
    """Questions and answers with every name, newcomers included, so that the model can produce the names."""
    return [
        (opening + ask.format(name=name), answer.format(name=name))
        for name in " ".join((RESIDENTS, *NEWCOMERS)).split()
        for ask, answer in GREETINGS
        for opening in OPENINGS
    ]


def rumours() -> list[tuple[str, str]]:
    """Questions about each newcomer with random answers, so that the base model's beliefs about them are arbitrary."""
    rng = random.Random("rumours")
    return [
        (question, fact.relation.answer.format(name=fact.name, value=rng.choice(fact.relation.values.split())))
        for week in range(len(NEWCOMERS))
        for fact in week_facts(week)
        for question in rng.sample(fact.phrasings(), RUMOURS)
    ]


def _facts(names: list[str], *, seed: int) -> list[Fact]:
    """Five facts for each person; no two people share a fact."""
    rng = random.Random(seed)
    columns = [rng.sample(relation.values.split(), len(names)) for relation in RELATIONS]
    return [
        Fact(name, relation, column[row])
        for row, name in enumerate(names)
        for relation, column in zip(RELATIONS, columns, strict=True)
    ]
