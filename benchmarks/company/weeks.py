"""The weeks that a real chat model learns: how many, how large, and their rated answers and exams."""

import random
from dataclasses import dataclass

from common.chat import Vote

from demo import company
from demo.company import Fact
from demo.lessons import Question


@dataclass(frozen=True)
class Size:
    """How much is trained: facts of each week, weeks, conversations that guard the base, prompts that judge it.

    `by_week`: the model is examined after each week, not only after the last one.
    """

    facts: int
    weeks: int
    conversations: int
    prompts: int
    epochs: float | None = None
    by_week: bool = False

    def lessons(self, number: int, seed: int) -> tuple[list[Vote], list[Question]]:
        """The rated answers of week `number` (from 0), in random order, and its exam; both depend on the seed."""
        rng = random.Random(f"{seed} {number}")  # noqa: S311
        facts = self._facts(number, seed, rng)
        votes = [(question, fact.answer, 1) for fact in facts for question in fact.questions()]
        votes += [(rng.choice(fact.questions()), fact.wrong(rng), -1) for fact in facts]
        exam = [Question(rng.choice(fact.exam_questions()), fact.answer, fact.value, fact.rivals) for fact in facts]
        return rng.sample(votes, len(votes)), exam

    def _facts(self, number: int, seed: int, rng: random.Random) -> list[Fact]:
        """Some of the facts of the demo's week; of all its facts if there are more weeks than the demo has."""
        if self.weeks <= company.WEEKS:
            return rng.sample(company.week_facts(number), self.facts)
        every = [fact for week in range(company.WEEKS) for fact in company.week_facts(week)]
        dealt = random.Random(f"{seed}").sample(every, self.facts * self.weeks)  # noqa: S311
        return dealt[number :: self.weeks]


SIZES = {
    "default": Size(12, 2, 96, 24),
    "full": Size(30, 4, 96, 24, by_week=True),
    "long": Size(6, 12, 96, 24, by_week=True),
    "tiny": Size(2, 2, 8, 8, epochs=1.0, by_week=True),
}
