"""Sweeps without a file: ``-f`` and ``--set``, printed, written, applied; and mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from runs import manifests, write
from typer.testing import CliRunner

from m2r_train.api import SpecErrors
from m2r_train.api.errors import ConfigError
from m2r_train.cli import app
from m2r_train.sweeps.ablation import OPTION, ablation
from m2r_train.sweeps.command import planned

LAMBDA = "rlvr.spec.rewards.ednm.lambda"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(manifests("data", "sft", "curriculum", "rlvr"), tmp_path / "base")


def test_each_combination_is_an_arm_with_its_values(base: Path) -> None:
    sweep = ablation([base], [f"{LAMBDA}=1,2.5", "rlvr.spec.curriculum.order=Ascending,Shuffled"])
    assert list(sweep.arms) == [
        "lambda-1-order-ascending",
        "lambda-1-order-shuffled",
        "lambda-2-5-order-ascending",
        "lambda-2-5-order-shuffled",
    ]
    runs = {run.resource.name: run.document for run in planned(OPTION, "3", sweep)}
    assert {"data-s3", "sft-s3", "curriculum-s3"} < runs.keys() and len(runs) == 3 + 4
    one = runs["rlvr-lambda-2-5-order-shuffled-s3"]
    assert one["spec"]["rewards"] == {"ednm": {"lambda": 2.5}}
    assert one["spec"]["curriculum"] == {"order": "Shuffled"}
    assert one["metadata"]["labels"]["m2r.dev/arm"] == "lambda-2-5-order-shuffled"


def test_values_are_yaml_and_a_lone_resource_needs_no_name(tmp_path: Path) -> None:
    lone = write(manifests("data"), tmp_path / "lone")
    sweep = ablation([lone / "data.yaml"], ["spec.outputs={sft: 3, rlvr: 1},null"])
    assert list(sweep.arms.values()) == [
        {"data.spec.outputs": {"sft": 3, "rlvr": 1}},
        {"data.spec.outputs": None},
    ]


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["spec.steps=3"], "--set spec.steps=3: is no field with values; write RESOURCE.spec"),
        (["rlvr.spec.steps"], "is no field with values"),
        (["rlvr.spec.steps="], "has no value; write at least one behind ="),
        (["rlvr.spec.steps=[3"], "the values are no YAML; quote them"),
        (["rlvr.spec.steps=3", "rlvr.spec.steps=4"], "--set: names a field twice"),
        (["rlvr.spec.steps=3,'3'"], "two combinations are called steps-3"),
        ([f"{LAMBDA}={','.join(map(str, range(1, 66)))}"], "65 combinations, 64 are allowed"),
        (["rlvr.spec.stebs=3"], "--set: arms.stebs-3: RLVRJob/rlvr: spec.stebs: unknown field"),
    ],
)
def test_a_text_that_sets_nothing_is_one_line(base: Path, sets: list[str], line: str) -> None:
    with pytest.raises(SpecErrors) as raised:
        planned(OPTION, None, ablation([base], sets))
    assert line in str(raised.value)
    assert len(raised.value.lines) == 1


def test_without_another_wish_the_manifests_are_printed(base: Path) -> None:
    done = CliRunner().invoke(app, ["sweep", "-f", str(base), "--set", f"{LAMBDA}=1,2"])
    assert done.exit_code == 0, done.output
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout)]
    assert names[-2:] == ["rlvr-lambda-1-s0", "rlvr-lambda-2-s0"] and len(names) == 5


def kubectl(folder: Path, code: int) -> str:
    """A PATH with a kubectl that keeps what it was told."""
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/told\ncat > {folder}/read\n'
        f'echo applied; echo "no such namespace" >&2; exit {code}\n'
    )
    program.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])


def test_apply_hands_the_manifests_to_kubectl(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", kubectl(tmp_path / "bin", 0))
    command = ["sweep", "-f", str(base), "--set", f"{LAMBDA}=1,2"]
    done = CliRunner().invoke(app, [*command, "--apply", "-n", "lab"])
    assert (done.exit_code, done.stdout) == (0, "applied\n")
    assert (tmp_path / "bin/told").read_text() == "apply -f - --namespace lab\n"
    printed = CliRunner().invoke(app, command).stdout
    assert (tmp_path / "bin/read").read_text() == printed


def test_what_kubectl_refuses_or_its_absence_is_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sweep", "-f", str(base), "--set", f"{LAMBDA}=1,2", "--apply"]
    monkeypatch.setenv("PATH", kubectl(tmp_path / "bin", 1))
    refused = CliRunner().invoke(app, command).exception
    assert isinstance(refused, ConfigError) and "no such namespace; correct" in str(refused)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = CliRunner().invoke(app, command).exception
    assert isinstance(missing, ConfigError) and "there is no kubectl" in str(missing)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "a sweep's file, or -f FILE with --set PATH=V1,V2"),
        (["-f", "x"], "a sweep's file, or -f FILE with --set PATH=V1,V2"),
        (["x", "-f", "x", "--set", "y"], "give one of both"),
        (["x", "-n", "lab"], "--namespace needs --apply; add it"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["sweep", *options])
    assert isinstance(done.exception, ConfigError) and line in str(done.exception)
