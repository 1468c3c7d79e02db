"""Texts written to hang, crash or take over a scorer: none does, and none is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from unit.benchmarks.test_figures import TAGGED

from m2r_train.benchmarks.registry import BENCHMARKS

K = 20_000
HOSTILE = {
    "a tower of powers": "9^{9^{9^{9}}}",
    "a tower in the language": "9**9**9**9",
    "a factorial": "(10^9)!",
    "digits": "9" * K,
    "a huge exponent": "1e999999999",
    "braces": "{" * K + "}" * K,
    "brackets": "(" * 200 + "1" + ")" * 200,
    "fractions": r"\frac{" * 80 + "}" * 80,
    "boxes": r"\boxed{" * K,
    "quotes": 'The answer is "' * K,
    "phrases": "the answer is " * K,
    "nested JSON": '{"short answer": ' * K + "}" * K,
    "nested lists": '{"short answer": ' + "[" * K + "]" * K + "}",
    "signs": "-" * K,
    "spaces": " " * K,
    "number words": "one " * K,
    "tags": "<answer>" * K + "</answer>" * K,
    "surrogates": "\ud800" * 10,
    "digits of other scripts": "²٣",
    "a null character": "\0",
}


# A choice of MathVista is always right for some text: the nearest option is taken.
RECORDS = [(name, TAGGED[name]) for name in BENCHMARKS if name != "mathvista"] + [
    (name, {**TAGGED[name], **fields})
    for name, fields in (
        ("mathvista", {"question_type": "free_form", "answer_type": "integer", "answer": "77"}),
        (
            "mathvista",
            {"question_type": "free_form", "answer_type": "float", "precision": 1, "answer": "7.7"},
        ),
        ("mathvision", {"options": [], "answer": "77"}),
        ("dynamath", {"answer_type": "float", "answer": "77"}),
        ("dynamath", {"answer_type": "text", "answer": "odd"}),
        ("vsi-bench", {"question_type": "object_abs_distance", "ground_truth": "777"}),
    )
]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_every_rule_ends_and_finds_nothing_right(text: str) -> None:
    for name, record in RECORDS:
        for rule, scorer in BENCHMARKS[name].rules.items():
            assert scorer(record, text).score == 0.0, (name, rule, record)


def test_a_text_that_is_too_long_is_no_answer() -> None:
    from m2r_train.benchmarks.scoring import prediction_text

    assert prediction_text({"prediction": "B" * 1_000_001}, "raw") is None


EXPLOITS = """
import sys
from itertools import product
sys.path[:0] = [{root!r}, {tests!r}]
from unit.benchmarks.test_hostile_texts import BENCHMARKS, RECORDS, TAGGED
from m2r_train.core.contract import extract_answer

CALLS = [
    "__import__('os').system('touch pwned')", "open('pwned', 'w').write('x')", "exec('x = 1')",
    "eval('1+1')", "compile('1', '', 'eval')", "__import__('subprocess').run(['touch', 'pwned'])",
    "().__class__.__bases__[0].__subclasses__()", "(lambda: [0] * 10**12)()", "exit()", "quit(0)",
    "globals()['__builtins__']", "[x for x in iter(int, 1)]", "__import__('socket').socket()",
    "getattr(__import__('os'), 'remove')('pwned')", "breakpoint()", "input()", "print(1)",
    "sympify('1')", "parse_expr('1')", "__import__('pickle').loads(b'x')", "f'{{open(1)}}'",
    "__import__('ctypes').CDLL(None)", "raise SystemExit", "import os", "1 if open('pwned') else 2",
]
WRAPS = [
    "%s", "\\\\boxed{{%s}}", "<answer>%s</answer>", "\\\\frac{{%s}}{{1}}", "(%s, 1)", "[%s]",
    "$%s$", '{{"short answer": "%s"}}', "The answer is \\"%s\\".", "the answer is %s",
    "\\\\sqrt{{%s}}", "2**%s", "%s + 1", "\\\\input{{%s}}", "\\\\write18{{%s}}",
    "{{{{%s}}}}", "`%s`", "${{%s}}", "1;%s", "!!python/object/apply:%s",
]
texts = [wrap % call for wrap, call in product(WRAPS, CALLS)]
assert len(texts) == 500
EVENTS = ("exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "ctypes.")

def score_all():
    for text, (name, record) in product(texts, [*RECORDS, ("mathvista", TAGGED["mathvista"])]):
        benchmark = BENCHMARKS[name]
        for scorer in (*benchmark.rules.values(), *benchmark.cut_rules.values()):
            for form in (text, extract_answer(text) or ""):
                scorer(record, form)

seen = []
watching = False
def watch(event, _):
    if watching and event.startswith(EVENTS):
        seen.append(event)

sys.addaudithook(watch)
watching = True
score_all()
watching = False
print(sorted(set(seen)))
watching = True
eval("1")
watching = False
print(sorted(set(seen)))
"""


def test_no_code_of_500_exploits_runs(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    code = EXPLOITS.format(root=str(root), tests=str(root / "tests"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scoring, probe = done.stdout.splitlines()
    assert scoring == "[]"
    assert "compile" in probe  # the hook sees what it looks for
    assert "exec" in probe
    assert list(tmp_path.iterdir()) == []
