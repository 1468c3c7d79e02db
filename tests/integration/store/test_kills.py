"""kill -9 at every point of claim, commit, prune and finish: the next attempt goes on rightly."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.store.helpers import KILLED, Place, die, run_child

from m2r_train.store import ObjectStore, Run

STEPS = 3
KEEP = 1


def state(step: int) -> dict[str, bytes]:
    return {"a.safetensors": bytes([step]) * 500, "b.json": b"{}"}


def whole_run(store: ObjectStore, attempt: int, probe=lambda name: None) -> None:  # type: ignore[no-untyped-def]
    """What a stage does: claim, resume, commit every step, prune, finish."""
    run = Run.claim(store, attempt, probe=probe)
    if run.result() is not None:
        return
    found = run.latest()
    run.prune(KEEP)  # what the last attempt had no time for
    for step in range(found.step + 1 if found else 1, STEPS + 1):
        run.journal_put(f"s{step}/part", b"x")
        probe(f"step-{step}")
        run.commit(step, state(step))
        run.prune(KEEP)
        run.journal_clear(step + 1)
    run.finish({"steps": STEPS})


def points(place: Place) -> list[str]:
    seen: list[str] = []
    whole_run(place.open(), 1, seen.append)
    return seen


def expected_step(names: list[str]) -> int:
    """The last step whose commit was published when the process died at the end of ``names``."""
    step = published = 0
    for name in names:
        if name.startswith("step-"):
            step = int(name.removeprefix("step-"))
        elif name == "after-head":
            published = step
    return published


def test_the_run_passes_every_kind_of_point(place: Place) -> None:
    kinds = {name for name in points(place) if not name.startswith("step-")}
    assert kinds == {
        *("before-claim", "after-claim", "before-file", "before-manifest", "after-manifest"),
        *("before-head", "after-head", "before-prune-head", "after-prune-head", "before-delete"),
        *("before-finish", "after-finish"),
    }


@pytest.mark.slow
def test_killed_at_any_point_a_run_resumes_where_it_was_and_ends_the_same(
    place: Place, tmp_path: Path
) -> None:
    names = points(place.under("reference"))
    reference = place.under("reference").objects()
    for index, name in enumerate(names):
        here = place.under(f"kill-{index}")
        passed: list[str] = []

        def probe(name: str, passed: list[str] = passed, index: int = index) -> None:
            passed.append(name)
            if len(passed) == index + 1:
                die()

        assert run_child(lambda here=here, probe=probe: whole_run(here.open(), 1, probe)) == KILLED
        store = here.open()
        heard: list[str] = []
        found = Run.claim(store, 2, on_corrupt=heard.append).latest()
        want = expected_step(names[: index + 1])
        assert (found.step if found else 0) == want, f"killed at point {index}, {name}"
        if found:
            assert dict(found.files) == state(want)
        assert heard == []
        whole_run(store, 3)
        left = here.objects()
        assert _steps(left) == _steps(reference), f"killed at point {index}, {name}"
        last = Run.claim(store, 4)
        assert last.result() == {"steps": STEPS}
        newest = last.latest()
        assert newest is not None
        assert dict(newest.files) == state(STEPS)


def _steps(objects: dict[str, bytes]) -> list[str]:
    """The objects but for the epochs in their names: no garbage is left, and nothing is missing."""
    return sorted(
        key if "/e" not in key else f"{key.split('/e')[0]}/{key.split('-', 1)[-1]}"
        for key in objects
        if not key.startswith("journal/")
    )
