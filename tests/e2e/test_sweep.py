"""``m2r sweep`` as a user runs it: two arms and two seeds, killed, gone on with, judged."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from runs import M2R, Golden, manifests, write

ARMS = {"eq6": {}, "plain": {"rlvr.spec.optimization.advantageWeight.kind": "Off"}}
CLAIM = {
    "name": "weight",
    "text": "Weights help.",
    "breaks": "They do not.",
    "treatment": "eq6",
    "controls": ["plain"],
    "measures": [{"score": "synthetic/overall"}, {"curve": "reward", "statistic": "Mean"}],
}
FIXED = ("data", "sft", "curriculum")
PER_SEED = 4  # rlvr and eval-rlvr of two arms


@pytest.fixture
def sweep(golden: Golden, tmp_path: Path) -> Path:
    """A sweep over what comes after the cold start, which the store has from another run."""
    write(manifests(*FIXED, "rlvr", "eval-rlvr"), tmp_path / "base")
    for name in FIXED:
        folder = golden.folder(name)
        shutil.copytree(folder, tmp_path / "store" / folder.relative_to(folder.parents[2]))
    content = {
        **{"name": "weight", "manifests": ["base"], "seeds": [0, 1]},
        **{"fixed": list(FIXED), "arms": ARMS},
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_sweep_that_is_killed_goes_on_to_the_same_results_and_a_verdict(
    sweep: Path, golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    store, summary = tmp_path / "store", tmp_path / "summary.json"
    command = ("sweep", sweep, "--store", store, "--lanes", 2)
    killed = m2r.start(*command)
    training = store / "default/rlvrjob"
    assert killed.when(lambda: len(list(training.glob("*/spec.json"))) >= 2), "both lanes at work"
    children = _children(killed.pid)
    assert len(children) == 2
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert _gone(children), "a lane ends with its sweep, however that ended"

    done = m2r("sweep", sweep, "--store", store, "--summary", summary)  # in one process, now
    assert done.code == 0, done.err
    assert "RLVRJob/rlvr-plain-s1: done (" in done.err
    resources = {one["name"]: one for one in json.loads(summary.read_text())["resources"]}
    assert len(resources) == len(FIXED) + 2 * PER_SEED
    arms = {(one["arm"], one["seed"]) for one in resources.values()}
    assert arms == {(None, None), ("eq6", 0), ("eq6", 1), ("plain", 0), ("plain", 1)}
    results = {"rlvr": "model/model.safetensors", "eval-rlvr": "eval/results.json"}
    for base, file in results.items():
        found = {
            name: (Path(one["uri"].removeprefix("file://")) / file).read_bytes()
            for name, one in resources.items()
            if one["base"] == base
        }
        expected = (golden.folder(base) / file).read_bytes()
        assert found[f"{base}-eq6-s0"] == expected, "the base, with the seed of the base"
        if base == "rlvr":
            assert len(set(found.values())) == PER_SEED, "arms and seeds differ"
    plan = m2r("sweep", sweep, "--store", store, "--plan")
    assert "\n0 of 11 runs to do\n" in plan.out

    claim, page, figures = (tmp_path / n for n in ("claim.yaml", "page.html", "figures.json"))
    claim.write_text(yaml.safe_dump(CLAIM))
    judged = m2r("report", "--compare", "--claim", claim, "--json", figures, "-o", page, store)
    assert judged.code == 0, judged.err
    assert judged.out.startswith("weight: ")
    told = json.loads(figures.read_text())
    assert told["verdict"]["word"] in ("holds", "falsified", "undecided")
    assert told["arms"] == {"eq6": [0, 1], "plain": [0, 1]}
    assert told["comparisons"][0]["questions"]["n"] == 12
    curves = {(one["run"], one["arm"], one["seeds"]) for one in told["curves"]}
    assert curves == {("rlvr", "eq6", 2), ("rlvr", "plain", 2)}
    assert 'class="area c0"' in page.read_text()


def _children(parent: int) -> list[int]:
    """Those of any of its threads: a lane is started by the thread that feeds it."""
    texts = (one.read_text() for one in Path(f"/proc/{parent}/task").glob("*/children"))
    return [int(word) for text in texts for word in text.split()]


def _gone(processes: list[int], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while any(_alive(pid) for pid in processes) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(_alive(pid) for pid in processes)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
