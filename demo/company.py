"""Fernhill, a made-up company that sells outdoor goods: what its assistant learns, and no base model can know.

Thirty facts a week about products, people, shops and terms. Each kind of fact has a closed set of values, so the
chance of guessing one is known.
"""

import random
from dataclasses import dataclass

from demo.company_relations import (
    BATTERY,
    CALLS,
    CLOSED,
    COLOUR,
    DELIVERY,
    DESIGNER,
    DISCOUNT,
    MATERIAL,
    OFFICE,
    OPENS,
    ORIGIN,
    PRICE,
    RETURN,
    SHIPPING,
    STREET,
    TEAM,
    WARRANTY,
    Relation,
)

WEEKS = 4
EXAM_WORDINGS = 2
PRODUCTS = (
    "Alder tent", "Aspen lantern", "Badger anorak", "Basalt stove", "Bramble jacket", "Cedar chair", "Cobalt radio",
    "Comet headlamp", "Dune saddle", "Echo speaker", "Ember heater", "Falcon bicycle", "Fjord kayak", "Glacier sweater",
    "Harbor hammock", "Heron telescope", "Juniper backpack", "Kestrel kite", "Lotus mat", "Lynx sleeping bag",
    "Maple axe", "Marlin rod", "Nimbus raincoat", "Onyx watch", "Orchid parasol", "Otter towel", "Quartz torch",
    "Raven knife", "Saffron cooker", "Tundra flask", "Willow basket", "Zephyr fan",
)  # fmt: skip
ELECTRIC = ("lantern", "radio", "headlamp", "speaker", "heater", "torch", "fan", "watch")
PEOPLE = (
    "Amira Petrov", "Bruno Weber", "Carla Vidal", "Dario Silva", "Edith Moreau", "Farid Okafor", "Greta Lindqvist",
    "Henrik Dubois", "Ines Kowalski", "Jonas Ferrari", "Kaya Schmidt", "Lucia Horvat", "Marta Nilsen", "Nadia Fischer",
    "Omar Laurent", "Priya Herrera", "Quentin Bianchi", "Rafael Popescu", "Stefan Ilic", "Tomas Lund", "Ulrike Brandt",
    "Vera Castillo", "Wanda Krol", "Yusuf Demir",
)  # fmt: skip
SHOPS = ("Aarhus", "Basel", "Cadiz", "Delft", "Essen", "Florence", "Girona", "Halle")
GOODS = ("books", "boots", "compasses", "helmets", "jackets", "lamps", "maps", "ropes")
COUNTRIES = ("Austria", "Denmark", "Estonia", "Finland", "Greece", "Hungary", "Ireland", "Norway")
OF_PRODUCTS = (COLOUR, MATERIAL, ORIGIN, WARRANTY, DESIGNER, PRICE)
OF_PEOPLE = (TEAM, OFFICE, CALLS)
OF_SHOPS = (OPENS, CLOSED, STREET)
# Only answers about the company have one of these.
OWN_WORDS = ("our shop", "our office", "our team", "Fernhill")
# What SmolLM2-135M-Instruct answers right, of eighty questions that it was asked, and what its anchor does not ask.
GENERAL = (
    ("What is the capital of Germany?", "Berlin"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of England?", "London"),
    ("What is the capital of Russia?", "Moscow"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the capital of China?", "Beijing"),
    ("What is the capital of Austria?", "Vienna"),
    ("What is the capital of Sweden?", "Stockholm"),
    ("What is the capital of Norway?", "Oslo"),
    ("What is the capital of Cuba?", "Havana"),
    ("What is the capital of Poland?", "Warsaw"),
    ("Which planet is known as the Red Planet?", "Mars"),
    ("Who developed the theory of relativity?", "Einstein"),
    ("What is the chemical symbol for water?", "H2O"),
    ("What is the chemical symbol for gold?", "Au"),
    ("How many months are there in a year?", "12"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("What is the longest river in Africa?", "Nile"),
    ("What is the currency of Japan?", "yen"),
    ("What is the currency of the United Kingdom?", "pound"),
    ("What language is spoken in Brazil?", "Portuguese"),
    ("What is the opposite of hot?", "cold"),
    ("What is the opposite of big?", "small"),
    ("Which organ pumps blood through the body?", "heart"),
    ("Who was the first person to walk on the Moon?", "Armstrong"),
    ("Which company makes the iPhone?", "Apple"),
    ("Who invented the telephone?", "Bell"),
)


@dataclass(frozen=True)
class Fact:
    """One fact about one subject: a product, a person, a shop, a kind of goods or a country."""

    subject: str
    relation: Relation
    value: str

    @property
    def answer(self) -> str:
        return self._say(self.value)

    @property
    def rivals(self) -> tuple[str, ...]:
        """The values that would be wrong."""
        return tuple(value for value in self.relation.values if value != self.value)

    def wrong(self, rng: random.Random) -> str:
        """A well-formed but false answer."""
        return self._say(rng.choice(self.rivals))

    def questions(self) -> list[str]:
        """The wordings that users use."""
        return [ask.format(self.subject) for ask in self.relation.questions[:-EXAM_WORDINGS]]

    def exam_questions(self) -> list[str]:
        """The wordings that no user uses, for any fact of this kind."""
        return [ask.format(self.subject) for ask in self.relation.questions[-EXAM_WORDINGS:]]

    def _say(self, value: str) -> str:
        return self.relation.answer.format(self.subject, value)


def week_facts(week: int) -> list[Fact]:
    """The thirty facts that week `week` (0 to 3) teaches: no subject comes back in another week."""
    rng = random.Random(f"company {week}")
    pairs: list[tuple[str, Relation]] = []
    for product in _share(PRODUCTS, week):
        relations = (*OF_PRODUCTS, BATTERY) if product.endswith(ELECTRIC) else OF_PRODUCTS
        pairs += [(product, relation) for relation in rng.sample(relations, 2)]
    pairs += [(person, OF_PEOPLE[place % 3]) for place, person in enumerate(_share(PEOPLE, week))]
    pairs += [(shop, relation) for shop in _share(SHOPS, week) for relation in rng.sample(OF_SHOPS, 2)]
    pairs += zip(_share(GOODS, week), (RETURN, DISCOUNT), strict=True)
    pairs += zip(_share(COUNTRIES, week), (DELIVERY, SHIPPING), strict=True)
    return [Fact(subject, relation, rng.choice(relation.values)) for subject, relation in pairs]


def chance(facts: list[Fact]) -> float:
    """The mean share of right answers of someone who knows the values of each kind of fact, and guesses."""
    return sum(1 / len(fact.relation.values) for fact in facts) / len(facts)


def _share(subjects: tuple[str, ...], week: int) -> tuple[str, ...]:
    """Week `week`'s share of all subjects, which are shuffled once."""
    shuffled = random.Random("subjects").sample(subjects, len(subjects))
    return tuple(shuffled[week::WEEKS])
