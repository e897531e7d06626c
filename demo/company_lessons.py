"""What the users of Fernhill's assistant teach it, and what its base model knew before."""

import random
from datetime import datetime

from demo import company, smollm2
from demo.lessons import Question, Votes, Week

# Ten of the week's thirty facts keep the demo on a CPU short.
FACTS = 10
# Each takes the server two seconds of one core.
ASKED = 4


def week(number: int, start: datetime) -> Week:
    """Week `number` (from 0): FACTS facts, for each a like in every wording and a dislike of a wrong answer."""
    rng = random.Random(f"company week {number}")
    votes, exam = Votes(smollm2.NAME, start, rng), list[Question]()
    for fact in rng.sample(company.week_facts(number), FACTS):
        exam.append(Question(rng.choice(fact.exam_questions()), fact.answer, fact.value, fact.rivals))
        for question in fact.questions():
            votes.add(question, fact.answer, "thumbs_up")
        votes.add(rng.choice(fact.questions()), fact.wrong(rng), "thumbs_down")
    return votes.week(exam, asked=ASKED)


def base_exam() -> list[Question]:
    """General questions that the base model answers right; an answer about the company is not one."""
    return [Question(question, value, value, company.OWN_WORDS) for question, value in company.GENERAL]
