"""``python tools/require_classes.py JUNIT.xml ... [--without CLASS]``: no silent skips.

Fails when a class of tests ran no test, or when a test was skipped for a reason that is not in
``ALLOWED_SKIPS``. A class is the first folder below ``tests/``, or a marker that ``conftest.py``
writes into the report. ``--without`` names a class that cannot run on this machine, which the
caller has said. Ends with the totals as one plain line.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REQUIRED = (
    "unit", "property", "integration", "e2e", "s3", "slow", "prometheus", "rollout", "cluster",
)  # fmt: skip
ALLOWED_SKIPS: tuple[str, ...] = ()  # regular expressions for whole reasons; none is needed so far


@dataclass(frozen=True)
class Case:
    """One test of a report; ``outcome`` is passed, failed or skipped."""

    name: str
    classes: frozenset[str]
    outcome: str
    reason: str = ""


def cases(report: str) -> Iterator[Case]:
    """The tests in a JUnit report (its text), as pytest writes it."""
    for node in ET.fromstring(report).iter("testcase"):
        path = node.get("classname", "").split(".")
        classes = {path[1]} if path[0] == "tests" and len(path) > 1 else set()
        classes |= {p.get("value", "") for p in node.iter("property") if p.get("name") == "class"}
        skipped = node.find("skipped")
        failed = node.find("failure") is not None or node.find("error") is not None
        yield Case(
            name=f"{node.get('classname')}::{node.get('name')}",
            classes=frozenset(classes),
            outcome="failed" if failed else "passed" if skipped is None else "skipped",
            reason="" if skipped is None else skipped.get("message", ""),
        )


def problems(
    found: Iterable[Case],
    allowed: tuple[str, ...] = ALLOWED_SKIPS,
    required: Iterable[str] = REQUIRED,
) -> Iterator[str]:
    """One line for each class that did not run and each skip that nobody allowed."""
    ran: Counter[str] = Counter()
    for case in found:
        if case.outcome != "skipped":
            ran.update(case.classes)
        elif not any(re.fullmatch(pattern, case.reason) for pattern in allowed):
            yield f"{case.name} was skipped: {case.reason}"
    for name in required:
        if not ran[name]:
            yield f"no test of the class {name!r} ran"


def main(arguments: list[str]) -> int:
    """Reads the reports, prints counts, problems and totals; 1 if there is a problem."""
    parser = argparse.ArgumentParser()
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=REQUIRED)
    given = parser.parse_args(arguments)
    # Of a test that was run again the last outcome counts.
    found = [*{c.name: c for path in given.reports for c in cases(path.read_text())}.values()]
    ran = Counter(name for c in found if c.outcome != "skipped" for name in c.classes)
    print("tests run: " + ", ".join(f"{name} {ran[name]}" for name in REQUIRED))
    print("skips allowed: " + (", ".join(ALLOWED_SKIPS) or "none"))
    wrong = list(problems(found, required=[name for name in REQUIRED if name not in given.without]))
    for line in wrong:
        print(f"require_classes: {line}", file=sys.stderr)
    totals = Counter(case.outcome for case in found)
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
