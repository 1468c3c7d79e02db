"""Equivalence of answers against math-verify: agreement, speed; hostile texts; exploits.

    python bench/bench_answers.py [--pairs 5000] [--hostile 1000] [--exploits 500] [--show 20]

Pairs: a truth as benchmarks and textbooks write them (integers, decimals, fractions, roots, pi,
percents, units, powers, polynomials, points, intervals, sets, equations, inequalities, matrices,
..) and a prediction, which is the truth in another form or a near miss; seeded. Both sides read two
texts and compare them, by turns in chunks, in one process; math-verify as its documentation says.
Fails below 99.5 % of agreement, or where it is not 50 times as fast in the median chunk.

Hostile: the families of `bench_scorers.py` at many sizes, by every type of answer; CPU seconds of
each. Fails beyond p99 250 ms, 2 s, or 512 MiB. Exploits: under an audit hook, nothing may be
compiled, executed, imported or opened.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from m2r_train.core.answers import equivalent  # noqa: E402
from m2r_train.core.records import AnswerType  # noqa: E402

LEAST_AGREEMENT, LEAST_RATIO = 0.995, 50.0
P99_SECONDS, MAX_SECONDS, PEAK_MIB = 0.25, 2.0, 512
CHUNK = 250
TYPES: tuple[AnswerType, ...] = ("choice", "number", "expression", "text")
Rng = random.Random


class Pair(NamedTuple):
    """A truth and a prediction of one kind; both in LaTeX without dollars."""

    kind: str
    truth: str
    prediction: str


Forms = Callable[[Rng], tuple[list[str], list[str]]]
"""Texts that say one thing, and texts that say another."""


def frac(a: int, b: int, rng: Rng) -> str:
    return rng.choice([rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{a}}}{{{b}}}", f"{a}/{b}"])


def integers(rng: Rng) -> tuple[list[str], list[str]]:
    n = rng.choice([rng.randrange(-20, 200), rng.randrange(1000, 10_000_000)])
    same = [str(n), f"{n}.0", f"{n:,}", f"{n:,}".replace(",", "{,}"), rf"{n}\text{{ cm}}"]
    same += [rf"{n}\text{{ units}}", f"x = {n}", f"n={n}", f"+{n}" if n > 0 else f"{n}", f" {n} "]
    return same, [str(n + rng.choice([-1, 1, 10])), str(-n or 7), f"{n}.5", f"{n}0"]


def decimals(rng: Rng) -> tuple[list[str], list[str]]:
    n, places = rng.randrange(1, 9999), rng.randrange(1, 4)
    value = n / 10**places
    same = [f"{value:.{places}f}", f"{value:.{places}f}0", rf"\frac{{{n}}}{{{10**places}}}"]
    same += [f"{n}/{10**places}", rf"{value:.{places}f}\text{{ m}}", f"y={value:.{places}f}"]
    return same, [f"{value + 10**-places:.{places}f}", f"{value * 10:.{places}f}", str(n)]


def fractions(rng: Rng) -> tuple[list[str], list[str]]:
    a, b, k = rng.randrange(1, 40), rng.randrange(2, 30), rng.randrange(2, 6)
    sign = rng.choice(["", "-"])
    same = [sign + frac(a, b, rng), sign + frac(a * k, b * k, rng), sign + rf"\frac{{{a}}}{{{b}}}"]
    if sign:
        same += [rf"\frac{{-{a}}}{{{b}}}", rf"-\frac{{{a}}}{{{b}}}"]
    if a > b and a % b and not sign:
        same += [rf"{a // b}\frac{{{a % b}}}{{{b}}}"]
    if b in (2, 4, 5, 8, 10, 16, 20, 25):
        same += [f"{sign}{a / b}"]
    wrong = [
        frac(b, a, rng),
        sign + frac(a + 1, b, rng),
        sign + frac(a, b + 1, rng),
        f"{a / b:.3f}",
    ]
    return same, [w for w in wrong if a != b or w != sign + frac(b, a, rng)] + [str(a * b + 1)]


def radicals(rng: Rng) -> tuple[list[str], list[str]]:
    k, r, d = rng.randrange(2, 9), rng.choice([2, 3, 5, 6, 7, 10, 11]), rng.randrange(2, 7)
    same = [rf"{k}\sqrt{{{r}}}", rf"\sqrt{{{k * k * r}}}", rf"{k}\cdot\sqrt{{{r}}}"]
    same += [rf"{k} \sqrt {{{r}}}", rf"\sqrt{{{r}}}\cdot {k}", rf"{k}{{\sqrt{{{r}}}}}"]
    wrong = [rf"{k}\sqrt{{{r + 1}}}", rf"{k + 1}\sqrt{{{r}}}", str(k * r), rf"-{k}\sqrt{{{r}}}"]
    if rng.random() < 0.4:
        same = [rf"\frac{{{k}\sqrt{{{r}}}}}{{{d}}}", rf"\frac{{{k * r}}}{{{d}\sqrt{{{r}}}}}"]
        same += [rf"\frac{{{k}}}{{{d}}}\sqrt{{{r}}}", rf"\dfrac{{{2 * k}\sqrt{{{r}}}}}{{{2 * d}}}"]
        wrong = [rf"\frac{{{k}\sqrt{{{r}}}}}{{{d + 1}}}", rf"\frac{{{k + 1}\sqrt{{{r}}}}}{{{d}}}"]
    elif rng.random() < 0.4:
        same = [rf"{d}+{k}\sqrt{{{r}}}", rf"{k}\sqrt{{{r}}} + {d}", rf"{d}+\sqrt{{{k * k * r}}}"]
        wrong = [rf"{d}-{k}\sqrt{{{r}}}", rf"{d + k}\sqrt{{{r}}}", rf"{d + 1}+{k}\sqrt{{{r}}}"]
    return same, wrong


def circles(rng: Rng) -> tuple[list[str], list[str]]:
    a, b = rng.randrange(2, 60), rng.randrange(2, 12)
    if rng.random() < 0.5:
        same = [
            rf"{a}\pi",
            rf"{a} \pi",
            rf"{a}\cdot\pi",
            rf"\pi\cdot {a}",
            rf"{a}\pi\text{{ cm}}^2",
        ]
        return same, [str(a), rf"{a + 1}\pi", rf"{a}\pi^2", rf"\frac{{{a}}}{{\pi}}"]
    same = [
        rf"\frac{{{a}\pi}}{{{b}}}",
        rf"\frac{{{a}}}{{{b}}}\pi",
        rf"\dfrac{{{2 * a}\pi}}{{{2 * b}}}",
    ]
    return same, [
        rf"\frac{{{a}\pi}}{{{b + 1}}}",
        rf"\frac{{{a}}}{{{b}\pi}}",
        rf"-\frac{{{a}\pi}}{{{b}}}",
    ]


def marked(rng: Rng) -> tuple[list[str], list[str]]:
    n = rng.randrange(1, 99)
    kind = rng.randrange(3)
    if kind == 0:
        return [rf"{n}\%", f"{n}", rf"{n}.0\%"], [rf"{n + 1}\%", f"{n + 1}", f"{n * 3}"]
    if kind == 1:
        return [rf"\${n}.50", f"{n}.5", rf"\${n}.5"], [rf"\${n}", f"{n + 1}.5", rf"\${n}.05"]
    return [rf"{n}^\circ", f"{n}", rf"{n}^{{\circ}}"], [rf"{n + 5}^\circ", f"{n + 1}", f"{2 * n}"]


def powers(rng: Rng) -> tuple[list[str], list[str]]:
    b, e = rng.randrange(2, 8), rng.randrange(2, 7)
    if rng.random() < 0.5:
        same = [f"{b}^{{{e}}}", f"{b}^{e}", str(b**e), rf"{b}\cdot {b}^{{{e - 1}}}"]
        return same, [f"{b}^{{{e + 1}}}", str(b**e + 1), f"{b * e if e * b != b**e else 1}"]
    m = rng.randrange(11, 99) / 10
    same = [rf"{m} \times 10^{{{e}}}", rf"{m}\cdot 10^{e}", str(round(m * 10**e))]
    return same, [rf"{m} \times 10^{{{e + 1}}}", str(round(m * 10**e) + 1), f"{m}"]


def polynomials(rng: Rng) -> tuple[list[str], list[str]]:
    a, b, v = (
        rng.randrange(1, 8),
        rng.randrange(1, 8),
        rng.choice("xya"),
    )  # math-verify takes "5t" for tons
    s, p = a + b, a * b
    same = [
        f"{v}^2+{s}{v}+{p}",
        f"({v}+{a})({v}+{b})",
        f"{p}+{s}{v}+{v}^2",
        f"{v}^{{2}} + {s}{v} + {p}",
    ]
    wrong = [f"{v}^2+{s}{v}-{p}", f"{v}^2+{s + 1}{v}+{p}", f"({v}-{a})({v}+{b})", f"{s}{v}+{p}"]
    if rng.random() < 0.5:
        same = [
            f"{a + 1}{v}+{b}",
            f"{b}+{a + 1}{v}",
            rf"{a + 1} {v} + {b}",
            rf"{a + 1}\cdot {v}+{b}",
        ]
        wrong = [f"{a + 1}{v}-{b}", f"{a + 2}{v}+{b}", f"{b + 1}+{a + 1}{v}", f"{a + 1 + b}{v}"]
    return same, wrong


def quotients(rng: Rng) -> tuple[list[str], list[str]]:
    a, b = rng.randrange(1, 9), rng.randrange(2, 9)
    same = [rf"\frac{{x+{a}}}{{{b}}}", f"(x+{a})/{b}", rf"\frac{{{a}+x}}{{{b}}}"]
    same += [rf"\frac{{x}}{{{b}}}+\frac{{{a}}}{{{b}}}", rf"\dfrac{{x + {a}}}{{{b}}}"]
    return same, [rf"\frac{{x-{a}}}{{{b}}}", rf"x+\frac{{{a}}}{{{b}}}", rf"\frac{{{b}}}{{x+{a}}}"]


def points(rng: Rng) -> tuple[list[str], list[str]]:
    a, b, c = (rng.randrange(-9, 10) for _ in range(3))
    if rng.random() < 0.5:
        same = [f"({a},{b})", f"({a}, {b})", rf"\left({a}, {b}\right)", rf"( {a} , {b} )"]
        return same, [f"({a},{b + 1})", f"({a + 1},{b})", f"({b + 20},{a})"]
    same = [f"({a},{b},{c})", f"({a}, {b}, {c})", rf"\left( {a}, {b}, {c} \right)"]
    return same, [f"({a},{b},{c + 1})", f"({a},{b})", f"({a + 1}, {b}, {c})"]


def intervals(rng: Rng) -> tuple[list[str], list[str]]:
    a, b = rng.randrange(-9, 5), rng.randrange(6, 20)
    kind = rng.randrange(3)
    if kind == 0:
        same = [f"[{a},{b})", f"[{a}, {b})", rf"\left[{a},{b}\right)", rf"x \in [{a},{b})"]
        return same, [f"({a},{b})", f"[{a},{b}]", f"[{a},{b + 1})"]
    if kind == 1:
        same = [rf"({a},\infty)", rf"\left({a}, \infty\right)", rf"({a}, +\infty)", f"x > {a}"]
        return same, [rf"[{a},\infty)", rf"({a + 1},\infty)", rf"(-\infty,{a})"]
    same = [rf"(-\infty,{a})\cup({b},\infty)", rf"(-\infty, {a}) \cup ({b}, \infty)"]
    return same, [rf"(-\infty,{a}]\cup[{b},\infty)", rf"(-\infty,{b})", rf"({b},\infty)"]


def collections(rng: Rng) -> tuple[list[str], list[str]]:
    values = rng.sample(range(-9, 20), rng.randrange(2, 5))
    turned = values[1:] + values[:1]
    other = [values[0] + 40, *values[1:]]
    text, back, wrong = (", ".join(map(str, v)) for v in (values, turned, other))
    if rng.random() < 0.5:
        same = [rf"\{{{text}\}}", rf"\{{{back}\}}", rf"\left\{{{text}\right\}}"]
        return same, [rf"\{{{wrong}\}}", rf"\{{{text}, 77\}}"]
    return [text, back, text.replace(" ", "")], [wrong, f"{text}, 77", str(values[0])]


def equations(rng: Rng) -> tuple[list[str], list[str]]:
    m, c = rng.randrange(2, 9), rng.randrange(1, 9)
    same = [f"y={m}x+{c}", f"y = {m}x + {c}", f"y={c}+{m}x", f"{m}x+{c}=y", f"y-{c}={m}x"]
    return same, [f"y={m}x-{c}", f"y={m + 1}x+{c}", f"x={m}y+{c}", f"y={m}x+{c + 1}"]


def inequalities(rng: Rng) -> tuple[list[str], list[str]]:
    a, b = rng.randrange(-9, 9), rng.randrange(10, 20)
    if rng.random() < 0.5:
        same = [f"x<{a}", f"x < {a}", f"{a}>x", f"{a} > x"]
        return same, [f"x>{a}", rf"x \le {a}", f"x<{a + 1}"]
    same = [rf"{a} \le x < {b}", rf"{a}\leq x<{b}", rf"[{a},{b})"]
    return same, [rf"{a} < x < {b}", rf"{a} \le x \le {b}", rf"{a + 1} \le x < {b}"]


def complexes(rng: Rng) -> tuple[list[str], list[str]]:
    a, b = rng.randrange(1, 9), rng.randrange(2, 9)
    return [f"{a}+{b}i", f"{b}i+{a}", f"{a} + {b}i"], [f"{a}-{b}i", f"{b}+{a + 1}i", f"{a}+{b}"]


def functions(rng: Rng) -> tuple[list[str], list[str]]:
    n, k = rng.randrange(4, 9), rng.randrange(2, 4)
    kind = rng.randrange(3)
    if kind == 0:
        return [f"{n}!", str(math.factorial(n))], [f"{n + 1}!", str(math.factorial(n) + 1)]
    if kind == 1:
        value = math.comb(n, k)
        return [rf"\binom{{{n}}}{{{k}}}", str(value)], [
            rf"\binom{{{n}}}{{{k + 1}}}",
            str(value + 1),
        ]
    same = [rf"\log_{{{k}}} {n}", rf"\log_{{{k}}}({n})", rf"\frac{{\ln {n}}}{{\ln {k}}}"]
    return same, [rf"\log_{{{k + 1}}} {n}", rf"\log_{{{k}}} {n + 1}", rf"\ln {n}"]


def letters(rng: Rng) -> tuple[list[str], list[str]]:
    chosen, other = rng.sample("ABCDE", 2)
    forms = ["{}", r"\text{{{}}}", r"\textbf{{{}}}"]
    return [f.format(chosen) for f in forms], [f.format(other) for f in forms]


def matrices(rng: Rng) -> tuple[list[str], list[str]]:
    a, b, c, d = (rng.randrange(-9, 10) for _ in range(4))
    body = rf"{a} & {b} \\ {c} & {d}"
    same = [
        rf"\begin{{pmatrix}} {body} \end{{pmatrix}}",
        rf"\begin{{pmatrix}}{body}\end{{pmatrix}}",
    ]
    same += [rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"]
    return same, [rf"\begin{{pmatrix}} {a + 1} & {b} \\ {c} & {d} \end{{pmatrix}}"]


KINDS: dict[Forms, int] = {
    integers: 28,
    decimals: 8,
    fractions: 14,
    radicals: 8,
    circles: 4,
    marked: 5,
    powers: 4,
    polynomials: 6,
    quotients: 3,
    points: 4,
    intervals: 3,
    collections: 3,
    equations: 3,
    inequalities: 2,
    complexes: 1,
    functions: 1,
    letters: 2,
    matrices: 1,
}


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """``count`` pairs, six in ten in two forms of one thing; the same for the same seed."""
    rng = Rng(seed)
    out = []
    for make in rng.choices(list(KINDS), list(KINDS.values()), k=count):
        same, other = make(rng)
        truth = rng.choice(same)
        prediction = rng.choice(same if rng.random() < 0.6 else other)
        out.append(Pair(make.__name__, truth, prediction))
    return out


def ours(pair: Pair) -> bool:
    """By the type that synthesis and rewards give such an answer."""
    kind: AnswerType = "choice" if pair.kind == "letters" else "expression"
    return equivalent(pair.prediction, pair.truth, kind)


def theirs(pair: Pair) -> bool:
    """As the documentation of math-verify does: gold first."""
    from math_verify import parse, verify

    gold = parse(f"${pair.truth}$")
    return bool(verify(gold, parse(f"\\boxed{{{pair.prediction}}}")))


def agreement_part(count: int, show: int) -> bool:
    """Table of kinds; whether both agree, and at what speed."""
    made = pairs(count)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    for pair in pairs(50, seed=1):  # imports, grammars, caches of modules
        ours(pair), theirs(pair)
    ratios, verdicts = [], []
    spent = {"ours": 0.0, "math-verify": 0.0}
    for start in range(0, count, CHUNK):
        chunk = made[start : start + CHUNK]
        at = time.process_time()
        here = [ours(pair) for pair in chunk]
        middle = time.process_time()
        there = [theirs(pair) for pair in chunk]
        end = time.process_time()
        spent["ours"] += middle - at
        spent["math-verify"] += end - middle
        ratios.append((end - middle) / (middle - at))
        verdicts += list(zip(chunk, here, there, strict=True))
    apart = [(pair, mine, its) for pair, mine, its in verdicts if mine is not its]
    total, differ = Counter(p.kind for p in made), Counter(p.kind for p, _, _ in apart)
    print("| kind | pairs | equal | apart |\n|---|---|---|---|")
    equal = Counter(pair.kind for pair, mine, _ in verdicts if mine)
    for kind, n in total.most_common():
        print(f"| {kind} | {n} | {equal[kind]} | {differ[kind]} |")
    for pair, mine, its in apart[:show]:
        print(f"\n- {pair.truth!r} and {pair.prediction!r}: we say {mine}, math-verify {its}")
    share, ratio = 1 - len(apart) / count, statistics.median(ratios)
    print(f"\nAgreement {100 * share:.2f} % of {count:,}; at least {100 * LEAST_AGREEMENT} %.")
    each = {name: 1e6 * seconds / count for name, seconds in spent.items()}
    print(
        f"CPU microseconds a pair: {each['ours']:.0f} against {each['math-verify']:.0f}; ", end=""
    )
    print(f"ratio of chunks {min(ratios):.0f} / {ratio:.0f} / {max(ratios):.0f}; at least 50.\n")
    return share >= LEAST_AGREEMENT and ratio >= LEAST_RATIO


# What only a reader of mathematics can be stalled with.
_TOWERS = (
    *(
        "9^{9^",
        "99^{99}",
        "(x+1)^{99}",
        "2^{4000}",
        "200!",
        "\\binom{200}{99}",
        "1/7+",
        "\\frac{1}{",
    ),
    *("\\sqrt[9]{", "\\sin\\cos ", "|", "\\{1,", "(1,2),", "x_{", "x=", "\\pm 1", "1,2,", "a<"),
    *("xyzabc", "5\\frac{5"),
)


def hostile(count: int) -> list[str]:
    """Half at sizes up to a quarter of a megabyte, half at sizes that are read as mathematics."""
    from bench_scorers import FAMILIES, hostile_texts

    families, rng = (*_TOWERS, *FAMILIES), Rng(3)
    short = []
    for k in range(count - count // 2):
        family, length = families[k % len(families)], rng.randrange(16, 513)
        short.append((family * (length // len(family) + 1))[:length])
    return hostile_texts(count // 2) + short


def hostile_part(count: int) -> bool:
    """Seconds of the worst texts; whether they stay within the bounds."""
    seconds = []
    for text in hostile(count):
        for kind in TYPES:
            at = time.process_time()
            equivalent(text, r"\frac{x+7}{2}", kind)
            equivalent(text, text + "1", kind)
            seconds.append(time.process_time() - at)
    p99 = statistics.quantiles(seconds, n=100)[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count:,} hostile texts: median {1e3 * statistics.median(seconds):.2f} ms, p99 ", end=""
    )
    print(f"{1e3 * p99:.1f} ms, maximum {1e3 * max(seconds):.1f} ms; peak memory {peak:.0f} MiB.\n")
    return p99 <= P99_SECONDS and max(seconds) <= MAX_SECONDS and peak <= PEAK_MIB


_PAYLOADS = (
    "__import__('os').system('{}')",
    "exec(\"import os; os.system('{}')\")",
    "eval('__import__(\\'os\\').popen(\\'{}\\')')",
    "().__class__.__base__.__subclasses__()[{n}]",
    "(lambda f: f(f))(lambda f: f(f))",
    "open('{}', 'w').write('x')",
    "getattr(__builtins__, 'exec')('{}')",
    r"\input{{/etc/passwd}}",
    r"\immediate\write18{{{}}}",
    "sympify('{}')",
    "x.__class__.__init__.__globals__['sys']",
    "{{{{ config.items() }}}}",
    "!!python/object/apply:os.system ['{}']",
    "Symbol('{}').subs(x, __import__('os'))",
    "`{}`",
    "$({})",
    "'; DROP TABLE answers; --",
    "%c%c%n{n}",
)
_WRAPS = (
    "{}",
    "$ {} $",
    r"\text{{{}}}",
    "7 + {}",
    "x = {}",
    r"\frac{{{}}}{{2}}",
    "[{}, 1]",
    "({})!",
)

_AUDITED = """
import sys
from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer
watched = ("exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "ctypes.")
texts = sys.stdin.read().split("\\0")
for text in ("7", "x+1", "\\\\sqrt{8}"):
    equivalent(text, "1,2", "expression")
seen = []
sys.addaudithook(lambda event, args: event.startswith(watched) and seen.append(event))
for text in texts:
    extract_answer("<answer>" + text + "</answer>")
    for kind in ("choice", "number", "expression", "text"):
        equivalent(text, "7", kind), equivalent("x+7", text, kind)
found = list(seen)
compile("1", "proof that the hook is on", "eval")
sys.exit(f"events: {found}" if found or "compile" not in seen else 0)
"""


def exploits(count: int) -> list[str]:
    """``count`` texts that would run something if they were evaluated."""
    rng = Rng(2)
    commands = ("touch /tmp/owned", "id", "curl http://127.0.0.1/", "python -c 1", "rm -rf x")
    return [
        rng.choice(_WRAPS).format(rng.choice(_PAYLOADS).format(rng.choice(commands), n=n))
        for n in range(count)
    ]


def exploits_part(count: int) -> bool:
    """Whether nothing of them ran, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _AUDITED],
        input="\0".join(exploits(count)),
        text=True,
        capture_output=True,
        cwd=Path(__file__).resolve().parent.parent,
        check=False,
    )
    print(f"{count} exploits: {'nothing ran' if done.returncode == 0 else done.stderr.strip()}\n")
    return done.returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print Markdown; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--hostile", type=int, default=1000)
    parser.add_argument("--exploits", type=int, default=500)
    parser.add_argument("--show", type=int, default=20, help="pairs that the two disagree on")
    args = parser.parse_args(argv)
    held = {
        "hostile": hostile_part(args.hostile),  # first: its peak of memory is ours alone
        "exploits": exploits_part(args.exploits),
        "agreement": agreement_part(args.pairs, args.show),
    }
    missed = [part for part, good in held.items() if not good]
    print(f"Missed: {', '.join(missed) or 'nothing'}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
