"""A reward that is no pure function of its arguments is refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2r_train.api.errors import DataError
from m2r_train.ownrewards.process import Limits, RewardFile, RewardProcess
from m2r_train.ownrewards.purity import Question, check_purity

ASKED: list[Question] = [
    (f"<answer>{i}</answer>", {"id": f"q{i}", "answer": "1"}) for i in range(6)
]


def check(source: str) -> None:
    """Try a file."""
    check_purity(RewardFile("own", "own.py", source.encode()), Limits(5.0), ASKED)


@pytest.mark.parametrize(
    "source",
    [
        "import random\ndef reward(completion, problem): return random.random()",
        "import time\ndef reward(completion, problem): return time.monotonic() % 1",
        "import os\ndef reward(completion, problem): return os.getpid() % 1000 / 1000",
        # equal in a row, but it hangs on what was asked before
        "seen = set()\ndef reward(completion, problem):\n"
        "    seen.add(completion)\n    return len(seen) / 100",
        "calls = 0\ndef reward(completion, problem):\n"
        "    global calls\n    calls += 1\n    return calls / 100",
    ],
    ids=["chance", "clock", "process", "memory", "counter"],
)
def test_what_hangs_on_more_than_its_arguments_is_refused(source: str) -> None:
    with pytest.raises(DataError, match=r"own\.py: reward\(\) gave .* for the same sample 'q\d'"):
        check(source)


def test_a_pure_function_is_not() -> None:
    check(
        "from functools import cache\nimport random\n"
        "@cache\ndef cut(text): return len(text)\n"
        "def reward(completion, problem):\n"
        "    return cut(completion) / 100 * random.Random(problem['id']).random()"
    )


def test_the_example_is_one() -> None:
    path = Path(__file__).parents[3] / "examples/own-reward/reward.py"
    file = RewardFile("varied", "reward.py", path.read_bytes())
    check_purity(file, Limits(), ASKED)
    with RewardProcess(file, Limits()) as ask:
        assert [ask(text, {}) for text in ("", "one two", "a A b c", "a\na")] == [0, 1, 0.75, 0.5]


def test_the_documented_function_is_the_examples() -> None:
    root = Path(__file__).parents[3]
    shown = (root / "docs/own-rewards.md").read_text().partition("```python\n")[2]
    body = shown.partition("```")[0].splitlines()
    code = (root / "examples/own-reward/reward.py").read_text().splitlines()
    assert [body[0], *body[2:]] == [line for line in code if line in {body[0], *body[2:]}]
