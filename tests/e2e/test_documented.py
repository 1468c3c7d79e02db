"""Every command of the documentation is run by a test: here, or by one that a table names.

What runs on this machine is run as it stands on its page, in a shell, in the order of the page.
What a reader has to replace is replaced (`prepared`): stores, folders, a model's and a run's size.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from documented import ROOT, Command, commands, commands_of, pages, spans, without_comment
from runs import Golden
from unit.benchmarks.sets import vsi_bench

from m2r_train.cli import app

GUIDE = "tests/cluster/chart/test_guide.py::"
IMAGES = "tests/integration/images/test_images.py::"
SWEEP = (
    "tests/e2e/test_sweep.py::test_a_sweep_that_is_killed_goes_on_to_the_same_results_and_a_verdict"
)
APPLIED = (
    "tests/cluster/test_sweep.py::"
    "test_written_manifests_end_with_the_bits_of_m2r_sweep_and_are_judged_from_their_store"
)
EXPERIMENTS = "tests/unit/test_experiments.py::"
DRAWN = "tests/e2e/test_dashboards.py::test_the_page_draws_every_panel"

# (page, beginning of the command, the test that runs it); pages by pattern.
ELSEWHERE = (
    # hours of work: the same commands on small manifests, and each experiment's files by themselves
    ("examples/experiments/*", "m2r sweep ", SWEEP),
    ("examples/experiments/*", "m2r report ", SWEEP),
    ("examples/experiments/*", "kubectl ", APPLIED),
    (
        "examples/experiments/*",
        "make experiments",
        f"{EXPERIMENTS}test_runs_are_made_once_and_kept_as_they_are_done",
    ),
    (
        "examples/experiments/*",
        "python tools/experiments ",
        f"{EXPERIMENTS}test_commands_and_their_mistakes",
    ),
    (
        "*",
        "m2r run --watch",
        "tests/cluster/test_watch.py::test_it_follows_runs_to_their_end_and_says_how_they_ended",
    ),
    (
        "docs/trackers.md",
        "pip install ",
        "tests/unit/test_export.py::test_a_client_that_is_missing_is_one_line",
    ),
    ("docs/install.md", "", f"{GUIDE}test_the_commands_of_a_section_work_as_they_stand"),
    ("*", "kubectl ", f"{GUIDE}test_the_commands_of_other_pages_work_as_they_stand"),
    ("*", "helm ", f"{GUIDE}test_the_commands_of_other_pages_work_as_they_stand"),
    ("examples/*", "sed ", f"{GUIDE}test_the_commands_of_other_pages_work_as_they_stand"),
    ("*", "make images", f"{IMAGES}test_the_libraries_are_those_of_the_lock"),
    (
        "*",
        "make quickstart",
        "tests/cluster/test_quickstart.py::"
        "test_the_quickstart_in_pods_tells_its_story_and_ends_with_the_bits_of_m2r_run",
    ),
    # what runs this file, too
    ("*", "make test", "tests/unit/test_tooling.py::test_a_class_that_did_not_run_is_a_problem"),
    ("docs/dashboards.md", ".venv/bin/python tools/dashboards draw ", DRAWN),
)
HERE = (
    "m2r ",
    "sed ",
    'eval "$(m2r ',
    "WANDB_MODE=offline m2r ",
)  # what this file runs, in the order of the page

# What `make` of a page does, so that the named test runs the same. Read and not asked of `make -n`,
# which runs a line that names $(MAKE): for `make test` that is all tests.
RECIPES = {
    "make images": "tools/images build operator trainer-cpu",
    "make quickstart": "m2r run -f examples/quickstart/ --store ./$(STORE)",
    "make test": "tools/run_tests.py",
}


def all_commands() -> list[Command]:
    """Those of all pages."""
    return [command for page in pages() for command in commands_of(page)]


def runs_here(command: Command) -> bool:
    """Whether this file runs the command: no cluster, and nothing that takes minutes."""
    return (
        command.text.startswith(HERE)
        and "kubectl" not in command.text
        and "--watch" not in command.text
        and not command.page.startswith("examples/experiments/")
    )


def elsewhere(command: Command) -> list[str]:
    """The tests that run the command, by `ELSEWHERE`."""
    return [
        test
        for page, start, test in ELSEWHERE
        if fnmatch(command.page, page) and command.text.startswith(start)
    ]


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: f"{c.page}: {c.text[:60]}")
def test_every_command_is_run_by_a_test(command: Command) -> None:
    assert runs_here(command) or elsewhere(command), (
        f"{command.page}: no test runs {command.text!r}: let tests/e2e/test_documented.py run it, "
        "or name the test that does in ELSEWHERE"
    )


@pytest.mark.parametrize(("page", "start", "test"), ELSEWHERE)
def test_the_tables_tests_exist_and_are_needed(page: str, start: str, test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    assert any(fnmatch(c.page, page) and c.text.startswith(start) for c in all_commands())


@pytest.mark.parametrize("command", RECIPES)
def test_a_target_of_make_is_what_the_named_test_runs(command: str) -> None:
    assert command in {c.text for c in all_commands()}
    target = command.split()[1]
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    assert RECIPES[command] in recipe[1]


# Those of this machine ----------------------------------------------------------------------------


def page_names() -> list[str]:
    """Pages with commands for this machine."""
    return sorted({c.page for c in all_commands() if runs_here(c)})


def prepared(folder: Path, golden: Golden, page: str) -> dict[str, str]:
    """What a reader has before the commands of ``page``; placeholder -> what stands for it."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    sweep = folder / "examples/sweep/sweep.yaml"
    sweep.write_text(sweep.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    (folder / "predictions.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in vsi_bench())
    )
    tools = folder / "bin"
    tools.mkdir()
    (tools / "m2r").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m m2r_train "$@"\n')
    (tools / "m2r").chmod(0o755)
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    for block in blocks if "rooms.yaml" in text else []:
        (folder / "rooms.yaml").write_text(yaml.safe_dump(small(block, folder, golden)))
    traced = golden.folder("rlvr") / "traces/step-000002.jsonl"
    one = json.loads(traced.read_text().splitlines()[0])
    mine = str(folder / "mine")  # what is written; the finished runs are only read
    return {
        " --endpoint https://s3.example.com": "",
        "--store s3://lab/m2r": f"--store {mine}",
        "store check s3://lab/m2r": f"store check {mine}",
        "s3://lab/m2r/default/datasynthesisjob/rooms-0a1b2c3d": str(golden.folder("data")),
        "s3://lab/m2r/default/rlvrjob/rooms-0a1b2c3d": str(golden.folder("rlvr")),
        "--step 120 --task RoomSize": f"--step 2 --task {one['task']}",
        "--step 120 --problem q17": f"--step 2 --problem '{one['id']}'",
        "--step 120": "--step 2",
        "http://mlflow:5000": (folder / "tracked").as_uri(),
        "s3://lab/m2r": golden.uri,
        "export m2r-store ": f"export {golden.uri} ",
        "/data/rooms-dataset": str(golden.folder("data") / "dataset"),
    }


def small(block: str, folder: Path, golden: Golden) -> dict[str, Any]:
    """The page's RLVRJob on a small model and dataset, with few steps; the rest as it stands."""
    document: dict[str, Any] = yaml.safe_load(block)
    spec = document["spec"]
    columns = spec["dataset"]["columns"]
    data = folder / "data"
    data.mkdir()
    shutil.copy(ROOT / "examples/annotated-scenes/frames/00.jpg", data / "photo.jpg")
    record = {"question": "how many ?", "answer": "1", "image": "photo.jpg"}
    lines = [json.dumps({columns[k]: v for k, v in record.items()} | {"id": i}) for i in range(4)]
    (data / "all.jsonl").write_text("\n".join(lines) + "\n")
    spec["model"]["uri"] = (golden.folder("sft") / "model").as_uri()
    spec["dataset"]["uri"] = data.as_uri()
    spec["steps"] = 1
    spec["rollout"] |= {"groupSize": 2, "promptsPerStep": 2, "maxCompletionTokens": 8}
    return document


@pytest.mark.parametrize("page", page_names())
def test_the_commands_of_a_page_work_as_they_stand(
    page: str, golden: Golden, tmp_path: Path
) -> None:
    stands_for = prepared(tmp_path, golden, page)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("M2R_", "AWS_"))}
    env = kept | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "M2R_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    for command in commands_of(ROOT / page):
        if not runs_here(command):
            continue
        text = command.text
        for placeholder, real in stands_for.items():
            text = text.replace(placeholder, real)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command.text}\n{done.stdout}\n{done.stderr}"
        for made in re.findall(r"(?:-o|--report|--out|--write|>) (?!\w+:)(\S+)", text):
            assert (tmp_path / made).exists(), f"{command.text}: did not write {made}"


# What stands in the text --------------------------------------------------------------------------

M2R = typer.main.get_command(app)


def known_options(words: list[str]) -> tuple[bool, set[str]]:
    """(whether these words name a command of m2r, its options)."""
    command: Any = M2R
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return False, set()
    return True, {o for p in command.params for o in p.opts} | {"-h", "--help"}


def faults(span: str) -> list[str]:
    """What is wrong with a command in back quotes: no such target, subcommand or option."""
    words = span.split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return [w for w in words[1:2] if w not in targets]
    named = [words[1], words[2]] if words[1:2] == ["store"] else words[1:2]
    there, options = known_options(named)
    if not there:
        return [" ".join(named)]
    return [w for w in words if re.fullmatch(r"--?[a-z][a-z-]*", w) and w not in options]


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_within_the_text_exist(page: Path) -> None:
    found = [span for span in spans(page) if re.match(r"(m2r|make) [a-z]", span)]
    assert {span: faults(span) for span in found if faults(span)} == {}


@pytest.mark.parametrize(
    "span",
    ["make nothing", "m2r nothing", "m2r store nothing", "m2r run -f x --fast", "m2r report -x"],
)
def test_one_that_does_not_exist_is_found(span: str) -> None:
    assert faults(span)


# The reader of pages ------------------------------------------------------------------------------


def test_prompts_outputs_comments_and_continued_lines_are_told_apart() -> None:
    block = "$ one --a 'b # c'   # why\noutput\n$ two \\\n    --d\n"
    assert list(commands(block, prompt=True)) == ["one --a 'b # c'", "two \\\n    --d"]
    block = "# why\nhelm x - <<'EOF'\na: 1  # kept\nEOF\n\nkubectl get x#y\n"
    assert list(commands(block, prompt=False)) == [
        "helm x - <<'EOF'\na: 1  # kept\nEOF",
        "kubectl get x#y",
    ]
    assert without_comment('echo "a # b" # c') == 'echo "a # b"'


def test_a_command_in_no_table_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"a\.md: no test runs 'aws s3 ls'"):
        test_every_command_is_run_by_a_test(Command("docs/a.md", "aws s3 ls"))
