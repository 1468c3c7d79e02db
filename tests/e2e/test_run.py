"""The main job on one machine, through ``m2r`` as a user runs it: results, reuse, seeds, pods."""

from __future__ import annotations

import hashlib
import html.parser
import http.client
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from runs import (
    M2R,
    NAMES,
    ONE_OF_EACH,
    Golden,
    change,
    files_under,
    manifests,
    run,
    stage_file,
    write,
)
from s3server import Server, free_port

KINDS = {
    "data": "DataSynthesisJob",
    "sft": "SFTJob",
    "curriculum": "DataSynthesisJob",
    "rlvr": "RLVRJob",
    "eval-base": "EvalJob",
    "eval-sft": "EvalJob",
    "eval-rlvr": "EvalJob",
}
FIELDS = {"kind", "name", "phase", "step", "scores", "output", "digest"}


def test_the_summary_has_every_resource_with_its_result(golden: Golden) -> None:
    resources = golden.summary["resources"]
    assert {r["name"]: r["kind"] for r in resources} == KINDS
    for resource in resources:
        assert resource.keys() == FIELDS
        assert resource["phase"] == "Succeeded"
        folder = Path(resource["output"].removeprefix("file://"))
        assert resource["digest"] == sha256sum_of(folder)
        assert bool(resource["scores"]) == (resource["kind"] == "EvalJob")
    steps = {name: golden.resource(name)["step"] for name in NAMES}
    assert (steps["data"], steps["sft"], steps["rlvr"], steps["eval-sft"]) == (6, 12, 6, 4)


def sha256sum_of(folder: Path) -> str:
    """The digest as anybody can make it: of what ``sha256sum`` prints, in order of the names."""
    files = {n: d for n, d in files_under(folder).items() if n != "MANIFEST.json"}
    lines = "".join(f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def test_resources_run_in_the_order_of_their_references(golden: Golden) -> None:
    order = [r["name"] for r in golden.summary["resources"]]
    for before, after in (
        ("data", "sft"),
        ("sft", "curriculum"),
        ("curriculum", "rlvr"),
        ("rlvr", "eval-rlvr"),
        ("sft", "eval-sft"),
    ):
        assert order.index(before) < order.index(after)


def test_training_has_moved_the_models(golden: Golden) -> None:
    """Else the comparisons of digests in these tests would prove nothing about gradients."""
    for name, key in (("sft", "loss"), ("rlvr", "reward")):
        history = records(golden, name, "history")
        assert any(record["grad_norm"] > 0 for record in history)
        assert len({record[key] for record in history}) > 1
    weights = {
        n: (golden.folder(n) / "model/model.safetensors").read_bytes() for n in ("sft", "rlvr")
    }
    assert weights["sft"] != weights["rlvr"]


@pytest.mark.global_rng("transformers draws initial weights before it loads the real ones")
def test_a_model_folder_loads_in_transformers_as_it_is(golden: Golden) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = golden.folder("rlvr") / "model"
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    picture = dataset(golden, "eval")[0]["images"][0]
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many ?"}]}],
        add_generation_prompt=True,
    )
    inputs = processor(text=[text], images=[as_image(picture)], return_tensors="pt")
    with torch.no_grad():
        made = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert inputs["input_ids"].shape[1] < made.shape[1] <= inputs["input_ids"].shape[1] + 2


def test_a_dataset_folder_loads_in_datasets_as_it_is(golden: Golden, tmp_path: Path) -> None:
    import datasets

    folder = golden.folder("data") / "dataset"
    splits = {"sft": 60, "rlvr": 20, "eval": 12}
    for split, size in splits.items():
        loaded = datasets.load_dataset(
            "parquet",
            data_files={split: str(folder / split / "*.parquet")},
            split=split,
            cache_dir=str(tmp_path),
        )
        assert len(loaded) == size
        assert {"id", "question", "answer", "images", "task", "chain"} <= set(loaded.column_names)
    whole = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {split: len(part) for split, part in whole.items()} == splits
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {s: own["samples"] for s, own in manifest["splits"].items()} == splits


def test_a_dataset_has_a_page_and_a_model_a_card_with_its_scores(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    for what in (golden.folder("data"), golden.folder("data") / "dataset"):
        page = tmp_path / "data.html"
        done = m2r("report", what, "-o", page)
        assert done.code == 0, done.err
        text = page.read_text()
        assert all(word in text for word in ("not needed", "data:image/webp", "✓ right"))
    out = tmp_path / "README.md"
    done = m2r("card", golden.folder("rlvr"), "--scores", golden.uri, "-o", out)
    assert done.code == 0, done.err
    assert "| eval-rlvr | synthetic | overall |" in out.read_text()
    assert "| SFTJob sft |" in out.read_text()
    assert "None are known here" in (golden.folder("rlvr") / "model/README.md").read_text()


def dataset(golden: Golden, split: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(
        golden.folder("data") / "dataset" / split / "00000.parquet"
    ).to_pylist()
    return rows


def as_image(picture: Any) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(picture["bytes"] if isinstance(picture, dict) else picture))


def test_evaluations_have_scores_with_n_and_standard_error(golden: Golden) -> None:
    results = json.loads((golden.folder("eval-rlvr") / "eval/results.json").read_text())
    scores = results["benchmarks"]["synthetic"]
    assert scores == golden.resource("eval-rlvr")["scores"]["synthetic"]
    assert scores["overall"]["n"] == results["questions"] == 12
    for score in scores.values():
        assert score.keys() == {"value", "n", "stderr"}
        assert 0 <= score["value"] <= 100
        assert score["stderr"] >= 0
    intervals = results["intervals"]["synthetic"]
    assert intervals.keys() == scores.keys()
    for name, (low, high) in intervals.items():
        assert 0 <= low <= scores[name]["value"] <= high <= 100
    table = (golden.folder("eval-rlvr") / "eval/results.md").read_text()
    assert table.splitlines()[2].startswith("|synthetic")
    lines = (golden.folder("eval-rlvr") / "eval/samples/synthetic.jsonl").read_text().splitlines()
    questions = {row["id"] for row in dataset(golden, "eval")}
    assert {json.loads(line)["id"] for line in lines} == questions
    assert all(len(json.loads(line)["sampled"]) == 2 for line in lines)


def test_the_curriculum_is_in_ascending_difficulty(golden: Golden) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(golden.folder("curriculum") / "dataset/rlvr/00000.parquet")
    difficulty = table["difficulty"].to_pylist()
    assert len(difficulty) == 20
    assert difficulty == sorted(difficulty)
    assert len(set(difficulty)) > 1


def test_without_a_terminal_progress_is_plain_lines_and_stdout_is_empty(golden: Golden) -> None:
    err = golden.done.err
    assert "\x1b" not in err and "\r" not in err
    for name, kind in KINDS.items():
        assert re.search(rf"^{kind}/{name}  started  \d+ steps$", err, re.M)
        assert re.search(rf"^{kind}/{name}  done in \S+  \d+ steps", err, re.M)
    table = err[err.index("Results") :]
    assert re.search(r"task +base +sft +rlvr +n", table)
    assert golden.done.out == ""


def test_the_report_is_one_page_with_the_table_and_nothing_from_outside(golden: Golden) -> None:
    page = Path(golden.uri.removeprefix("file://")).parent / "report.html"
    check_page(page.read_text(), golden)


def test_a_report_can_be_made_of_a_store_later(golden: Golden, m2r: M2R, tmp_path: Path) -> None:
    for what in (golden.uri, golden.uri.removeprefix("file://")):
        page = tmp_path / "later.html"
        done = m2r("report", what, "-o", page)
        assert (done.code, done.err, done.out) == (0, "", f"{page}\n")
        check_page(page.read_text(), golden)
        page.unlink()


class Page(html.parser.HTMLParser):
    """What a page shows and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag in ("td", "th"):
            self.cells.append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def check_page(text: str, golden: Golden) -> None:
    page = Page(text)
    assert [u for u in page.fetched if not u.startswith(("#", "data:"))] == []
    assert not re.search(r"url\((?!['\"]?(data:|#))|@import|<script[^>]+src", text)
    cells = [" ".join(cell.split()) for cell in page.cells]
    assert {"base", "sft", "rlvr"} <= set(cells)
    for name in ("eval-base", "eval-sft", "eval-rlvr"):
        value = golden.resource(name)["scores"]["synthetic"]["overall"]["value"]
        assert any(cell.startswith(f"{value:.1f}") for cell in cells), name
    assert "data:image/" in text  # samples with pictures


def test_the_same_command_again_does_nothing(golden: Golden, tmp_path: Path) -> None:
    store = Path(golden.uri.removeprefix("file://"))
    before = stamps(store)
    again = run(M2R(tmp_path), store.parent / "manifests", golden.uri)
    assert again.digests == golden.digests
    assert "started" not in again.done.err
    changed = {name for name, stamp in stamps(store).items() if before.get(name) != stamp}
    assert {Path(name).name for name in changed} <= {"HEAD", "spec.json"}
    assert again.done.seconds < golden.done.seconds


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """(size, time of change) of every file but locks."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith(".m2r-"):
            stat = file.stat()
            found[file.relative_to(folder).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return found


def test_a_changed_field_starts_new_runs_from_there_on_and_reuses_what_comes_before(
    golden: Golden, tmp_path: Path
) -> None:
    changed = change(manifests(*ONE_OF_EACH), "rlvr", "rollout.temperature", 0.9)
    changed = change(changed, "sft", "watchdog.stallSeconds", 77)  # does not change a result
    again = run(M2R(tmp_path), write(changed, tmp_path / "manifests"), golden.uri)
    for name in ("data", "sft", "curriculum"):
        assert again.resource(name) == golden.resource(name)
        assert f"/{name}  started" not in again.done.err
    for name in ("rlvr", "eval-rlvr"):
        assert again.folder(name) != golden.folder(name)
        assert f"/{name}  started" in again.done.err
    assert again.digests["rlvr"] != golden.digests["rlvr"]


def test_equal_seeds_in_two_stores_give_equal_digests(golden: Golden, tmp_path: Path) -> None:
    files = write(manifests(*ONE_OF_EACH), tmp_path / "manifests")
    again = run(M2R(tmp_path), files, str(tmp_path / "a store"), "--seed", "0")
    assert again.digests == {n: d for n, d in golden.digests.items() if n in ONE_OF_EACH}
    assert again.resource("sft")["output"].startswith((tmp_path / "a store").as_uri())


def test_another_seed_gives_other_results(golden: Golden, tmp_path: Path) -> None:
    files = write(manifests("data", "sft"), tmp_path / "manifests")
    other = run(M2R(tmp_path), files, (tmp_path / "store").as_uri(), "--seed", "1")
    assert other.digests["data"] != golden.digests["data"]
    assert other.digests["sft"] != golden.digests["sft"]
    questions = {row["question"] + row["answer"] for row in dataset(golden, "eval")}
    assert {r["question"] + r["answer"] for r in dataset(other, "eval")} != questions


def test_a_relative_store_means_the_same_as_its_absolute_path(tmp_path: Path) -> None:
    files = write(manifests("data"), tmp_path / "manifests")
    first = run(M2R(tmp_path), files, "some/../store here", cwd=tmp_path)
    assert first.resource("data")["output"].startswith((tmp_path / "store here").as_uri())
    again = run(M2R(tmp_path), files, (tmp_path / "store here").as_uri())
    assert again.digests == first.digests
    assert "started" not in again.done.err


@pytest.mark.s3
def test_an_s3_store_gives_the_same_digests_as_files(
    golden: Golden, s3: Server, tmp_path: Path
) -> None:
    m2r = M2R(tmp_path, s3.env)
    files = write(manifests(*ONE_OF_EACH), tmp_path / "manifests")
    uri = f"{s3.make_bucket('whole-run')}/some/prefix"
    first = run(m2r, files, uri, endpoint=s3.endpoint)
    assert first.digests == {n: d for n, d in golden.digests.items() if n in ONE_OF_EACH}
    assert first.resource("rlvr")["output"].startswith(uri)
    again = run(m2r, files, uri, endpoint=s3.endpoint)
    assert again.digests == first.digests
    assert "started" not in again.done.err
    page = tmp_path / "report.html"
    done = m2r("report", uri, "--endpoint", s3.endpoint, "-o", page)
    assert (done.code, done.err) == (0, "")
    assert Page(page.read_text()).cells
    dataset_uri = first.resource("data")["output"]
    done = m2r("report", dataset_uri, "--endpoint", s3.endpoint, "-o", page)
    assert (done.code, done.err) == (0, "")
    assert "data:image/webp" in page.read_text()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_pod_makes_of_a_spec_what_the_runner_made_of_the_manifest(
    golden: Golden, m2r: M2R, tmp_path: Path, name: str
) -> None:
    spec = stage_file(golden, name, tmp_path / "store", tmp_path / "spec.json")
    port = free_port()
    process = m2r.start("stage", "--spec", tmp_path / "spec.json", "--port", port)
    seen: list[dict[str, Any]] = []
    metrics: list[str] = []

    def look() -> bool:
        try:
            seen.append(json.loads(fetch(port, "/status")))
            metrics.append(fetch(port, "/metrics"))
        except (OSError, http.client.HTTPException):
            return False  # not up yet, or gone in the middle of an answer
        return False

    process.when(look)
    done = process.wait()
    assert (done.code, done.out) == (0, "")
    last_words = json.loads((m2r.home / "termination-log").read_text())
    assert last_words["exitCode"] == 0
    assert last_words["outputs"]["digest"] == golden.digests[name]
    assert seen, "the port was open while the stage ran"
    assert any("m2r_step" in text for text in metrics)
    total = golden.resource(name)["step"]
    if total > 1:
        assert any(0 < s["step"] < total == s["totalSteps"] for s in seen)
    if spec.kind in ("SFTJob", "RLVRJob"):
        assert any(s["lastCheckpoint"] and s["phase"] == "Running" for s in seen)
        assert last_words["step"] == last_words["lastCheckpoint"]["step"] == total
        history = (golden.folder(name) / "records/history.jsonl").read_bytes()
        run_folder = tmp_path / "store" / spec.run_prefix
        assert (run_folder / "records/history.jsonl").read_bytes() == history


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
        text: str = reply.read().decode()
    return text


def test_a_pod_whose_port_is_taken_says_so_in_one_line(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    import socket

    stage_file(golden, "data", tmp_path / "store", tmp_path / "spec.json")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = m2r("stage", "--spec", tmp_path / "spec.json", "--port", str(port))
    assert done.code == 78
    assert len(done.err.splitlines()) == 1 and str(port) in done.err
    assert json.loads((m2r.home / "termination-log").read_text())["exitCode"] == 78


def records(golden: Golden, name: str, what: str) -> list[dict[str, Any]]:
    lines = (golden.folder(name) / f"records/{what}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
