"""A user's mistake is one line that names the place and the remedy, a documented exit code, and
nothing half-written. Each case is a real process, as in a terminal.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e.careless import careless_server
from runs import M2R, Done, Golden, change, files_under, manifests, run, stage_file, write
from s3server import Server, free_port
from unit.data.folders import write_lines

from m2r_train.store import read_head
from m2r_train.store.local import LocalStore

Setup = Callable[[Path, Golden], Any]  # makes what is wrong; the value that the field is set to


def check_one_line(done: Done, code: int, *named: str) -> None:
    """One line on stderr, and in it everything in ``named``; nothing on stdout."""
    assert done.code == code, done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("m2r: ")
    for part in named:
        assert part in done.err
    assert done.out == ""


# wrong manifests: nothing is imported, nothing is written


@dataclass(frozen=True)
class Wrong:
    """A field of the small manifests set to a wrong value, and what the line has to name."""

    name: str
    path: str
    value: Any
    named: tuple[str, ...]


WRONG = {
    "an unknown field": Wrong(
        "rlvr", "rollout.groupsize", 4, ("spec.rollout.groupsize", "did you mean groupSize")
    ),
    "a wrong type": Wrong("sft", "training.steps", "many", ("spec.training.steps", "whole number")),
    "a value out of bounds": Wrong("rlvr", "rollout.groupSize", 1, ("spec.rollout.groupSize", "2")),
    "both uri and from": Wrong(
        "sft", "dataset.uri", "file:///data", ("spec.dataset", "exactly one of", "remove")
    ),
    "neither uri nor from": Wrong(
        "sft", "dataset", {"split": "sft"}, ("spec.dataset", "exactly one of")
    ),
    "a missing resource": Wrong(
        "sft",
        "dataset.from.name",
        "dat",
        ("spec.dataset.from", "DataSynthesisJob/dat", "did you mean data?"),
    ),
    "a split that is not made": Wrong(
        "data", "outputs.rlvr", 0, ("spec.sources[0].dataset.split", "spec.outputs.rlvr")
    ),
    "a cycle": Wrong(
        "sft",
        "model",
        {"from": {"kind": "RLVRJob", "name": "rlvr"}},
        ("refers to itself", "SFTJob/sft", "remove one reference"),
    ),
}


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_manifest_is_told_in_one_line(
    m2r: M2R, tmp_path: Path, case: Wrong, command: str
) -> None:
    documents = change(manifests(), case.name, case.path, case.value)
    files = write(documents, tmp_path / "manifests")
    store = ("--store", tmp_path / "store") if command == "run" else ()
    done = m2r(command, "-f", files, *store)
    check_one_line(done, 64, ".yaml: ", *case.named)
    assert not (tmp_path / "store").exists()


USAGE = {
    "no manifests": (("run",), "--file"),
    "an unknown option": (("run", "-f", "x.yaml", "--sead", "1"), "--sead"),
    "an unknown command": (("train",), "train"),
    "a seed that is no number": (("run", "-f", "x.yaml", "--seed", "many"), "--seed"),
    "a missing file": (("run", "-f", "nowhere.yaml"), "nowhere.yaml"),
    "a missing spec": (("stage", "--spec", "nowhere.json"), "nowhere.json"),
    "no report file": (("report", "somewhere"), "--out"),
    "a store of no kind": (("store", "check", "ftp://host/x"), "ftp://host/x"),
}
CODES = {"a store of no kind": 78}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_told_in_one_line(m2r: M2R, tmp_path: Path, case: str) -> None:
    arguments, named = USAGE[case]
    check_one_line(m2r(*arguments, cwd=tmp_path), CODES.get(case, 64), named)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"termination-log"}  # the last words of `m2r stage`, for the kubelet


@pytest.mark.parametrize("option", ["--summary", "--report"])
def test_an_output_in_a_missing_folder_is_refused_before_anything_runs(
    m2r: M2R, tmp_path: Path, option: str
) -> None:
    files = write(manifests("data"), tmp_path / "manifests")
    target = tmp_path / "missing" / "out"
    done = m2r("run", "-f", files, "--store", tmp_path / "store", option, target)
    check_one_line(done, 78, str(target), "folder that exists")
    assert not (tmp_path / "store").exists()


def test_a_report_of_a_place_without_runs_is_refused(m2r: M2R, tmp_path: Path) -> None:
    done = m2r("report", tmp_path / "empty", "-o", tmp_path / "page.html")
    check_one_line(done, 65, str(tmp_path / "empty"), "no runs here")
    assert not (tmp_path / "page.html").exists()


# right manifests that cannot be run as configured


def no_dataset(folder: Path, _: Golden) -> str:
    return (folder / "nowhere").as_uri()


def no_model(folder: Path, _: Golden) -> dict[str, str]:
    return {"uri": (folder / "nowhere").as_uri()}


def model_with(name: str, content: bytes) -> Setup:
    """A copy of a good model folder with one file more."""

    def setup(folder: Path, golden: Golden) -> dict[str, str]:
        copy = folder / "a-model"
        shutil.copytree(golden.folder("sft") / "model", copy)
        (copy / "MANIFEST.json").unlink()
        (copy / name).write_bytes(content)
        return {"uri": copy.as_uri()}

    return setup


def model_without_weights(folder: Path, golden: Golden) -> dict[str, str]:
    setup = model_with("notes.txt", b"")(folder, golden)
    (folder / "a-model" / "model.safetensors").unlink()
    return dict(setup)


def other_architecture(folder: Path, golden: Golden) -> dict[str, str]:
    config = json.loads((golden.folder("sft") / "model" / "config.json").read_text())
    other = json.dumps({**config, "model_type": "llama"}).encode()
    return dict(model_with("config.json", other)(folder, golden))


def damaged_model(folder: Path, golden: Golden) -> dict[str, str]:
    copy = folder / "a-model"
    shutil.copytree(golden.folder("sft") / "model", copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    return {"uri": copy.as_uri()}


def dataset_of(*rows: Mapping[str, Any] | bytes) -> Setup:
    def setup(folder: Path, _: Golden) -> dict[str, Any]:
        write_lines(folder / "my-data" / "train.jsonl", rows)
        return {"uri": (folder / "my-data").as_uri()}

    return setup


GOOD = {"question": "how many ?", "answer": "3"}
BAD = {"question": "how many ?"}


@dataclass(frozen=True)
class Unrunnable:
    """``spec.<path>`` of a small manifest set to what ``setup`` makes (or ``value``)."""

    name: str
    path: str
    code: int
    named: tuple[str, ...]
    setup: Setup | None = None
    value: Any = None
    more: Mapping[str, Any] = field(default_factory=dict)


RLVR_ALONE = {"model": {"preset": "tiny"}}
UNRUNNABLE = {
    "a missing dataset": Unrunnable(
        "rlvr",
        "dataset",
        65,
        ("spec.dataset", "my/nowhere", "check the URI"),
        lambda folder, _: {"uri": (folder / "my" / "nowhere").as_uri()},
        more=RLVR_ALONE,
    ),
    "a missing model": Unrunnable(
        "rlvr", "model", 65, ("spec.model", "nowhere", "check the URI"), no_model
    ),
    "a model with code": Unrunnable(
        "rlvr",
        "model",
        78,
        ("spec.model", "modeling_custom.py", "keep only"),
        model_with("modeling_custom.py", b"import os\n"),
    ),
    "a model with a pickle": Unrunnable(
        "rlvr",
        "model",
        78,
        ("spec.model", "pytorch_model.bin", "keep only"),
        model_with("pytorch_model.bin", b"\x80\x04."),
    ),
    "a model without weights": Unrunnable(
        "rlvr", "model", 78, ("spec.model", "no *.safetensors", "convert"), model_without_weights
    ),
    "another architecture": Unrunnable(
        "rlvr", "model", 78, ("spec.model", "llama", "qwen2_5_vl"), other_architecture
    ),
    "a damaged model": Unrunnable(
        "rlvr", "model", 65, ("spec.model", "model.safetensors", "publish it again"), damaged_model
    ),
    "too many bad records": Unrunnable(
        "rlvr",
        "dataset",
        65,
        ("spec.dataset", "2 of 5 records are bad", "no answer", "maxBadRatio", "record 2"),
        dataset_of(GOOD, BAD, {**GOOD, "answer": "4"}, b"{", {**GOOD, "answer": "5"}),
        more=RLVR_ALONE,
    ),
    "no column of that name": Unrunnable(
        "rlvr",
        "dataset",
        65,
        ("spec.dataset", "no column 'answer'", "dataset.columns.answer"),
        dataset_of({"question": "how many ?", "solution": "3"}),
        more=RLVR_ALONE,
    ),
    "samples without chains for SFT": Unrunnable(
        "sft", "dataset", 65, ("spec.dataset", "have no chain"), dataset_of(GOOD)
    ),
    "the engine vllm": Unrunnable(
        "rlvr", "rollout.engine", 78, ("spec.rollout.engine", "vllm", "inprocess"), value="vllm"
    ),
    "the engine vllm for evaluation": Unrunnable(
        "eval-base",
        "generation.engine",
        78,
        ("spec.generation.engine", "vllm", "inprocess"),
        value="vllm",
    ),
    "a judge": Unrunnable(
        "data",
        "quality",
        78,
        ("spec.quality.judge", "templates"),
        value={"judge": {"model": {"preset": "tiny"}}},
    ),
    "too few samples for a split": Unrunnable(
        "data", "outputs", 65, ("spec.outputs.eval", "5000"), value={"eval": 5000}
    ),
}


@pytest.mark.parametrize("case", UNRUNNABLE.values(), ids=UNRUNNABLE)
def test_what_cannot_be_run_is_told_in_one_line(
    golden: Golden, m2r: M2R, tmp_path: Path, case: Unrunnable
) -> None:
    value = case.setup(tmp_path, golden) if case.setup else case.value
    documents = change(manifests(case.name), case.name, case.path, value)
    for path, other in case.more.items():
        documents = change(documents, case.name, path, other)
    documents = with_everything_before(documents)
    files = write(documents, tmp_path / "manifests")
    store = tmp_path / "store"
    shutil.copytree(golden.uri.removeprefix("file://"), store)  # what comes before is done
    before = files_under(store)
    done = m2r("run", "-f", files, "--store", store, "--summary", tmp_path / "summary.json")
    kind = documents[case.name]["kind"]
    assert done.code == case.code, done.err
    assert len(done.complaints) == 1, done.err
    line = done.complaints[0]
    assert f"{case.name}.yaml: {kind}/{case.name}: " in line
    for part in case.named:
        assert part in line, line
    assert "Traceback" not in done.err
    assert not (tmp_path / "summary.json").exists()
    # the journal may hold finished parts, for the next try; of a result there is nothing
    new = {name for name in files_under(store) if name not in before and "/journal/" not in name}
    assert {Path(name).name for name in new} <= {"HEAD", "spec.json", "started.json"}


def with_everything_before(documents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The manifests together with those that they refer to."""
    text = json.dumps(documents)
    needed = {name for name in ("data", "sft", "curriculum") if f'"name": "{name}"' in text}
    if "curriculum" in needed:
        needed |= {"data", "sft"}
    if "sft" in needed:
        needed |= {"data"}
    return {**manifests(*needed), **documents} if needed else documents


def test_a_few_bad_records_are_named_and_left_out(m2r: M2R, tmp_path: Path) -> None:
    rows = [{"question": f"what is {n} plus 1 ?", "answer": str(n + 1)} for n in range(9)]
    value = dataset_of(*rows[:4], BAD, *rows[4:])(tmp_path, None)  # type: ignore[arg-type]
    documents = change(manifests("eval-base"), "eval-base", "benchmarks", [])
    documents["eval-base"]["spec"]["benchmarks"] = [
        {"name": "synthetic", "data": {**value, "maxBadRatio": 0.1}}
    ]
    done = run(M2R(tmp_path), write(documents, tmp_path / "manifests"), str(tmp_path / "store"))
    named = [line for line in done.done.err.splitlines() if "left out" in line]
    assert len(named) == 1
    assert "my-data/train.jsonl record 5: no answer" in named[0]
    assert done.resource("eval-base")["scores"]["synthetic"]["overall"]["n"] == 9


def test_an_input_that_changed_after_the_operator_looked_is_refused(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    spec = stage_file(golden, "sft", tmp_path / "store", tmp_path / "spec.json")
    told = json.loads((tmp_path / "spec.json").read_text())
    told["inputs"]["dataset"]["digest"] = "0" * 64
    (tmp_path / "spec.json").write_text(json.dumps(told))
    done = m2r("stage", "--spec", tmp_path / "spec.json", "--port", 0)
    check_one_line(done, 65, f"{spec.kind}/sft: spec.dataset", "has changed", "start a new run")
    last_words = json.loads((m2r.home / "termination-log").read_text())
    assert last_words["exitCode"] == 65 and "has changed" in last_words["message"]


# stores


def unwritable(folder: Path) -> str:
    (folder / "a-file").write_text("not a folder")
    return (folder / "a-file" / "store").as_uri()


def read_only(_: Path) -> str:
    return "file:///sys/m2r-store"  # nobody can write there, not even the superuser


@pytest.mark.parametrize("where", [unwritable, read_only])
def test_a_store_that_cannot_be_written_is_told_in_one_line(
    m2r: M2R, tmp_path: Path, where: Callable[[Path], str]
) -> None:
    uri = where(tmp_path)
    files = write(manifests("data"), tmp_path / "manifests")
    done = m2r("run", "-f", files, "--store", uri)
    check_one_line(done, 78, "DataSynthesisJob/data", uri)
    check_one_line(m2r("store", "check", uri), 78, uri)


def test_an_s3_server_that_is_not_there_is_told_in_one_line(m2r: M2R, tmp_path: Path) -> None:
    files = write(manifests("data"), tmp_path / "manifests")
    nowhere = f"http://127.0.0.1:{free_port()}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "c"}
    done = m2r("run", "-f", files, "--store", "s3://bucket/x", "--endpoint", nowhere, **keys)
    check_one_line(done, 78, "DataSynthesisJob/data", "s3://bucket/x", "cannot be reached")


@pytest.mark.s3
@pytest.mark.parametrize(
    ("bucket", "keys", "named"),
    [
        ("no-such-bucket", {}, "there is no bucket"),
        ("with-wrong-keys", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "check the credentials"),
    ],
)
def test_a_wrong_bucket_or_key_is_told_in_one_line(
    s3: Server, tmp_path: Path, bucket: str, keys: dict[str, str], named: str
) -> None:
    if bucket == "with-wrong-keys":
        s3.make_bucket(bucket)
    m2r = M2R(tmp_path, {**s3.env, **keys})
    files = write(manifests("data"), tmp_path / "manifests")
    at = ("--store", f"s3://{bucket}/x", "--endpoint", s3.endpoint)
    check_one_line(m2r("run", "-f", files, *at), 78, f"s3://{bucket}/x", named)


@pytest.mark.s3
def test_a_good_store_passes_the_check(s3: Server, tmp_path: Path) -> None:
    uri = f"{s3.make_bucket('checked')}/x"
    done = M2R(tmp_path, s3.env)("store", "check", uri, "--endpoint", s3.endpoint)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == f"{uri}: safe"
    assert list((s3.root / "checked").rglob("*.json")) == []


def test_a_store_without_compare_and_swap_is_found_out(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "c"}
    m2r = M2R(tmp_path, {**keys, "M2R_S3_CHECKSUMS": "when_required"})
    with careless_server() as endpoint:
        done = m2r("store", "check", "s3://old/x", "--endpoint", endpoint)
    assert done.code == 78
    assert done.err == (
        "m2r: s3://old/x: this store is not safe for checkpoints; use another one\n"
    )
    verdicts = {line[5:].split(":")[0]: line[:4].strip() for line in done.out.splitlines()[:-1]}
    assert verdicts["content"] == verdicts["list after write"] == "ok"
    assert verdicts["stale tag refused"] == verdicts["one winner of a race"] == "FAIL"
    assert "NOT SAFE" in done.out.splitlines()[-1]


# full disks


@pytest.mark.parametrize("name", ["data", "sft"])
def test_a_full_store_is_told_in_one_line_and_the_run_goes_on_once_there_is_room(
    golden: Golden, m2r: M2R, tmp_path: Path, name: str
) -> None:
    """A limit on the size of files stands in for a full disk: it needs no rights to set."""
    spec = stage_file(golden, name, tmp_path / "store", tmp_path / "spec.json")
    arguments = ("stage", "--spec", tmp_path / "spec.json", "--port", 0)
    done = m2r(*arguments, largest_file=20_000)
    assert done.code == 78, done.err
    assert "Traceback" not in done.err
    assert len(done.complaints) == 1
    assert re.search(rf"{spec.kind}/{name}: store file:.*file too large.*ulimit -f", done.err)
    folder = tmp_path / "store" / spec.run_prefix
    assert not list(folder.rglob(".m2r-tmp-*"))
    again = m2r(*arguments)
    assert again.code == 0, again.err
    head = read_head(LocalStore(folder))
    assert head is not None and head.result is not None
    assert head.result["digest"] == golden.digests[name]
