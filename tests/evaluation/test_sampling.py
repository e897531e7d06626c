"""Which rows are measured, and which judge later versions."""

import datasets

from learning_engine.evaluation import sampling


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    rows = datasets.Dataset.from_dict({"row": range(100)})
    few, many = (sampling.sample(rows, limit)["row"][:] for limit in (5, 20))
    assert set(few) < set(many) < set(range(100))
    assert many == sorted(many) != list(range(20))
    assert (len(few), len(many), sampling.sample(rows, 100)) == (5, 20, rows)


def test_rows_that_teach_something_judge_first_and_one_of_each_conversation() -> None:
    conversations = ["a", "a", "a", "b", "c", "d"]
    teaches = [True, True, False, True, False, False]
    assert sampling.judging(conversations, teaches, 6) == list(range(6))
    three = sampling.judging(conversations, teaches, 3)
    assert three == [0, 1, 3]
    (of_a, b) = sampling.judging(conversations, teaches, 2)
    assert (of_a in {0, 1}, b) == (True, 3)
    assert sampling.judging([], [], 3) == []


def test_otherwise_chance_decides_alike_each_time() -> None:
    names = [str(row) for row in range(100)]
    found = sampling.judging(names, [False] * 100, 10)
    assert found == sampling.judging(names, [False] * 100, 10) == sorted(found)
    assert found != list(range(10))
