"""What the users of Fernhill's assistant teach it, and what its base model knew before."""

import random
from datetime import datetime

from demo import company, smollm2
from demo.lessons import Question, Votes, Week

# Twenty of the week's thirty facts, and five of the six wordings of a question, keep the demo on a CPU short.
FACTS, LIKES = 20, 5
# Each takes the server two seconds of one core.
ASKED = 6


def week(number: int, start: datetime) -> Week:
    """Week `number` (from 0): FACTS facts, for each LIKES likes of the right answer and a dislike of a wrong one."""
    rng = random.Random(f"company week {number}")
    votes, exam = Votes(smollm2.NAME, start, rng), list[Question]()
    for fact in rng.sample(company.week_facts(number), FACTS):
        exam.append(Question(rng.choice(fact.exam_questions()), fact.answer, fact.value, fact.rivals))
        for question in rng.sample(fact.questions(), LIKES):
            votes.add(question, fact.answer, "thumbs_up")
        votes.add(rng.choice(fact.questions()), fact.wrong(rng), "thumbs_down")
    return votes.week(exam, asked=ASKED)


def base_exam() -> list[Question]:
    """General questions that the base model answers right; an answer about the company is not one."""
    return [Question(question, value, value, company.OWN_WORDS) for question, value in company.GENERAL]
