"""From runs with the labels of arms to figures, verdict, page and JSON of a claim."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.report.test_comparisons import Report, own, report  # noqa: F401 - a fixture

from m2r_train.api.claim import Claim, Measure
from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.claims import claim_figures, labelled_runs
from m2r_train.report.arms import band, statistic
from m2r_train.reporting import StoredRun, find_runs
from m2r_train.store.checkpoints import Run
from m2r_train.store.local import LocalStore

MODEL = {"preset": "tiny"}
EVALUATION = EvalSpec.model_validate(
    {"model": MODEL, "benchmarks": [{"name": "synthetic", "data": {"uri": "file:///d"}}]}
)
TRAINING = RLVRSpec.model_validate({"model": MODEL, "dataset": {"uri": "file:///d"}, "steps": 3})


def stored(
    root: Path, base: str, arm: str, seed: int, *, sweep: str = "reward", done: bool = True
) -> LocalStore:
    """A run of an arm, without what its stage publishes."""
    evaluates = base == "eval"
    folder = root / f"{sweep}-{base}-{arm}-{seed}"
    store = LocalStore(folder)
    labels = {"m2r.dev/sweep": sweep, "m2r.dev/arm": arm, "m2r.dev/seed": str(seed)}
    run = RunSpec(
        kind="EvalJob" if evaluates else "RLVRJob",
        metadata=RunMetadata(name=f"{base}-{arm}-s{seed}", uid="0123456789abcdef", labels=labels),
        storage=RunStorage(uri=folder.as_uri()),
        seed=seed,
        spec=resolved(EVALUATION if evaluates else TRAINING),
    )
    claimed = Run.claim(store, 1)
    store.put("spec.json", run.to_json().encode())
    if done:
        claimed.finish({"steps": 1, "digest": "ab"})
    return store


def evaluated(root: Path, arm: str, seed: int, *answers: float, **more: Any) -> None:
    """An evaluation of an arm: the score of each question."""
    store = stored(root, "eval", arm, seed, **more)
    value = 100.0 * sum(answers) / len(answers)
    score = {"value": value, "n": len(answers), "stderr": None}
    results = {"benchmarks": {"synthetic": {"overall": score, "Count": score}}, "protocols": {}}
    store.put("eval/results.json", json.dumps(results).encode())
    lines = "".join(json.dumps(line) + "\n" for line in own(*answers))
    store.put("eval/samples/synthetic.jsonl", lines.encode())


def trained(root: Path, arm: str, seed: int, rewards: Sequence[float], **more: Any) -> None:
    """A training of an arm: its reward at each step."""
    store = stored(root, "rlvr", arm, seed, **more)
    records = [{"step": step, "reward": reward} for step, reward in enumerate(rewards)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    store.put("records/history.jsonl", lines.encode())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three seeds in which the treatment has 50, 25 and 75 points more, of four questions."""
    root = tmp_path / "store"
    for seed, (before, after) in enumerate(
        [((0, 0, 1, 0), (1, 0, 1, 1)), ((0, 0, 1, 0), (1, 0, 1, 0)), ((0, 0, 0, 0), (1, 1, 1, 0))]
    ):
        evaluated(root, "binary", seed, *before)
        evaluated(root, "ednm", seed, *after)
        trained(root, "binary", seed, [0.1, 0.2, 0.3])
        trained(root, "ednm", seed, [0.1, 0.3, 0.5 + seed / 10])
    return root


def claim(**changes: Any) -> Claim:
    content = {
        "name": "smooth",
        "text": "Smooth rewards help.",
        "breaks": "Binary ones do as well.",
        "treatment": "ednm",
        "controls": ["binary"],
        "measures": [{"score": "synthetic/overall"}, {"curve": "reward"}],
        **changes,
    }
    return Claim.model_validate_json(json.dumps(content), by_alias=True, by_name=False)


def figures(runs: Path, **changes: Any) -> dict[str, Any]:
    one = claim(**changes)
    return claim_figures(one, labelled_runs(found(runs), one), file="claim.yaml")


def found(runs: Path) -> list[StoredRun]:
    return find_runs([runs.as_uri()])


def test_differences_are_taken_within_a_seed_and_questions_tell_beside(runs: Path) -> None:
    score, curve = figures(runs)["comparisons"]
    assert score["seeds"]["2"] == {"control": 0.0, "treatment": 75.0}
    assert (score["advantage"], score["n"]) == (50.0, 3)
    assert score["stderr"] == pytest.approx(25 / 3**0.5)
    assert score["high"] - 50.0 == pytest.approx(4.302653 * score["stderr"])
    assert score["questions"]["advantage"] == pytest.approx(50.0)
    assert score["questions"]["n"] == 4
    assert curve["advantage"] == pytest.approx(0.3)  # the last of three steps: .5, .6, .7 less .3
    assert curve["questions"] is None
    assert score["p_holm"] == pytest.approx(max(score["p"], 2 * curve["p"]))
    assert score["p"] > curve["p"]


def test_the_first_measure_decides(runs: Path) -> None:
    assert figures(runs)["verdict"]["word"] == "undecided"  # t of 2 degrees of freedom is 4.3
    curve = [{"curve": "reward"}]
    assert figures(runs, measures=curve)["verdict"]["word"] == "holds"
    both = figures(runs, measures=[*curve, {"score": "synthetic/overall"}])
    assert both["verdict"]["word"] == "undecided", "p is 0.035, and 0.07 as one of two"
    assert "Holm's p is 0.07" in both["verdict"]["why"]
    wide = [{"curve": "reward", "margin": 0.9}]
    assert figures(runs, measures=wide)["verdict"]["word"] == "falsified"
    lower = [{"curve": "reward", "better": "Lower"}]
    assert figures(runs, measures=lower)["verdict"]["word"] == "falsified"


def test_measures_that_are_called_the_same_are_named_with_their_run(runs: Path) -> None:
    named = {"score": "synthetic/overall", "run": "eval"}
    both = figures(runs, measures=[named, {"score": "synthetic/overall"}, {"curve": "reward"}])
    told = [one["measure"] for one in both["comparisons"]]
    assert told == ["synthetic/overall of eval", "synthetic/overall", "final reward"]
    alone = figures(runs, measures=[named])
    assert [one["measure"] for one in alone["comparisons"]] == ["synthetic/overall"]


def needing(least: float) -> list[dict[str, Any]]:
    measure = {"curve": "reward", "statistic": "Max"}  # of the control: 0.3 in each seed
    text = "Binary rewards start at all."
    return [{"arm": "binary", "measure": measure, "atLeast": least, "text": text}]


def test_a_claim_without_what_it_needs_is_not_tested(runs: Path) -> None:
    curve = [{"curve": "reward"}]
    met = figures(runs, measures=curve, preconditions=needing(0.3))
    assert met["verdict"]["word"] == "holds"
    assert met["preconditions"][0]["met"]
    missing = figures(runs, measures=curve, preconditions=needing(0.31))
    assert missing["verdict"]["word"] == "undecided"
    why = "not tested: Binary rewards start at all: binary shows 0.3 on the mean, and 0.31 is the"
    assert missing["verdict"]["why"].startswith(why)
    (told,) = missing["preconditions"]
    assert (told["mean"], told["seeds"]) == (pytest.approx(0.3), {"0": 0.3, "1": 0.3, "2": 0.3})
    assert missing["comparisons"][0]["verdict"] == "holds", "what differs is told all the same"
    falsified = [{"curve": "reward", "better": "Lower"}]
    word = figures(runs, measures=falsified, preconditions=needing(0.31))["verdict"]["word"]
    assert word == "undecided"


def test_only_finished_runs_and_only_those_of_the_sweep_count(runs: Path) -> None:
    evaluated(runs, "ednm", 3, 1, 1, 1, 1, done=False)
    evaluated(runs, "binary", 3, 0, 0, 0, 0)
    told = figures(runs)
    assert (told["arms"]["ednm"], told["arms"]["binary"]) == ([0, 1, 2], [0, 1, 2, 3])
    assert told["comparisons"][0]["n"] == 3
    evaluated(runs, "ednm", 0, 0, 0, 0, 0, sweep="other")
    assert figures(runs, sweep="reward")["comparisons"][0]["advantage"] == 50.0
    with pytest.raises(DataError, match=r"are both eval-ednm-s0; name the folders of one, the"):
        figures(runs)


def test_other_questions_are_not_paired_by_question(runs: Path) -> None:
    evaluated(runs, "ednm", 3, 1, 1, 1, 1, 1)
    evaluated(runs, "binary", 3, 0, 0, 0, 0)
    (one,) = figures(runs, measures=[{"score": "synthetic/overall"}])["comparisons"]
    assert (one["n"], one["questions"]) == (4, None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"treatment": "edm"},
            "claim.yaml: treatment: no finished run of arm edm among those given (there are "
            "binary, ednm); run m2r sweep first, or correct the name",
        ),
        (
            {"controls": ["none"]},
            "claim.yaml: controls: no finished run of arm none among those given",
        ),
        (
            {"measures": [{"score": "synthetic/overal"}]},
            "claim.yaml: measures[0]: no finished run of arm ednm has synthetic/overal; did you "
            "mean synthetic/overall?",
        ),
        (
            {"measures": [{"curve": "rewards"}]},
            "claim.yaml: measures[0]: no finished run of arm ednm has final rewards; did you mean "
            "reward?",
        ),
        (
            {"preconditions": [{**needing(0.1)[0], "arm": "none"}]},
            "claim.yaml: preconditions[0].arm: no finished run of arm none among those given",
        ),
        (
            {"preconditions": [{**needing(0.1)[0], "measure": {"curve": "rewards"}}]},
            "claim.yaml: preconditions[0].measure: no finished run of arm binary has final rewards",
        ),
        (
            {"measures": [{"curve": "reward", "run": "sft"}]},
            "claim.yaml: measures[0]: no finished run of arm ednm has final reward; run the sweep",
        ),
    ],
)
def test_what_the_runs_do_not_have_is_one_line(
    changes: dict[str, Any], line: str, runs: Path
) -> None:
    with pytest.raises(DataError) as told:
        figures(runs, **changes)
    assert str(told.value).startswith(line)


def test_a_measure_that_two_resources_have_must_name_one(runs: Path) -> None:
    for seed in range(3):
        for arm in ("ednm", "binary"):
            store = stored(runs, "second", arm, seed)
            store.put("records/history.jsonl", b'{"step":0,"reward":0.5}\n')
    with pytest.raises(DataError, match=r"measures\[1\].run: rlvr and second have final reward"):
        figures(runs)
    named = [{"curve": "reward", "run": "rlvr"}]
    assert figures(runs, measures=named)["comparisons"][0]["n"] == 3


def test_a_statistic_is_of_the_part_of_the_curve_that_it_names() -> None:
    points = [(float(step), float(step)) for step in range(20)]

    def of(**more: Any) -> float | None:
        return statistic(points, Measure.model_validate({"curve": "x", **more}))

    assert of() == 18.5  # the last tenth: 18 and 19
    assert of(last=0.5) == 14.5
    assert of(statistic="Mean", up_to_step=4) == 2.0
    assert (of(statistic="Max", up_to_step=7), of(statistic="Min")) == (7.0, 0.0)
    assert statistic([], Measure(curve="x")) is None


def test_a_band_is_the_range_of_the_seeds_over_the_steps_that_all_have() -> None:
    made = band([[(0, 1.0), (1, 2.0), (2, 9.0)], [(0, 3.0), (1, 6.0)]], smoothed=False)
    assert (made.steps, made.mean) == ((0, 1), (2.0, 4.0))
    assert (made.low, made.high, made.seeds) == ((1.0, 2.0), (3.0, 6.0), 2)


def test_the_command_writes_page_and_json_and_says_the_verdict(
    runs: Path,
    report: Report,  # noqa: F811
    tmp_path: Path,
) -> None:
    path, out = tmp_path / "claim.yaml", tmp_path / "figures.json"
    text = "<b>Smooth</b> rewards help."
    told_first = claim(text=text, preconditions=needing(0.25))
    content = told_first.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    path.write_text(yaml.safe_dump(content))
    options = ("--compare", "--claim", str(path), "--json", str(out), str(runs))
    code, told, err = report(*options)
    assert (code, err) == (0, "")
    assert told.startswith("smooth: undecided: against binary: advantage +50")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;Smooth" in page
    assert '<path class="area c1"' in page, "the band of the treatment"
    assert "+50 [-12.1, +112]" in page
    assert "Binary rewards start at all." in page
    written = json.loads(out.read_text())
    assert {one["arm"] for one in written["curves"]} == {"binary", "ednm"}
    assert [one["mean"] for one in written["scores"] if one["figure"] == "overall"]
    first = (tmp_path / "page.html").read_bytes()
    report(*options)
    assert (tmp_path / "page.html").read_bytes() == first


@pytest.mark.parametrize(
    "options",
    [("--claim", "c.yaml"), ("--compare", "--json", "x.json"), ("--sweep", "s.yaml")],
)
def test_options_that_need_another_are_told(
    options: tuple[str, ...],
    report: Report,  # noqa: F811
    runs: Path,
) -> None:
    code, _, err = report(*options, str(runs))
    remedy = "m2r: --claim needs --compare; --json and --sweep need --claim; add it\n"
    assert (code, err) == (78, remedy)


def test_a_claims_page_has_no_traces(report: Report, runs: Path) -> None:  # noqa: F811
    code, _, err = report("--compare", "--claim", "c.yaml", "--step", "3", str(runs))
    told = "m2r: --step: a claim's page shows no traces; leave out --step or --claim\n"
    assert (code, err) == (78, told)
