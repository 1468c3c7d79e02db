"""A command line that is wrong is told in one line, with what is right or where that is said."""

from __future__ import annotations

import sys

import pytest

import m2r_train.reporting  # noqa: F401 - a library of its draws once, when it is imported
from m2r_train import cli


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["sweeep"], 64, "No such command 'sweeep'. Did you mean 'sweep'; see `m2r --help`"),
        (["report"], 64, "Missing argument 'runs'; see `m2r report --help`"),
        (["store", "chek"], 64, "Did you mean 'check'; see `m2r store --help`"),
        (["run", "--stoer", "x"], 64, "--store); see `m2r run --help`"),
        (["run", "-f"], 64, "Option '-f' requires an argument; see `m2r --help`"),
        (["run", "-f", "x", "--seed", "-1"], 64, "see `m2r run --help`"),
        (["completion", "tcsh"], 64, "see `m2r completion --help`"),
        (["validate", "-f", "not-there.yaml"], 64, "not-there.yaml: cannot be read"),
        (["store", "check", "s3://"], 78, "names no bucket: write s3://bucket/prefix"),
        (["store", "check", "s3:///x"], 78, "names no bucket: write s3://bucket/prefix"),
        (["store", "check", "ftp://x"], 78, "use s3://, file:/// or a path"),
        (["score", "nosuch", "--input", "a", "--out", "b"], 64, "use one of mathvista"),
        (["score", "mathvista", "--input", "a", "--out", "b"], 65, "name a JSON Lines file"),
        (["report", "not-there", "-o", "x.html"], 65, "name a run's folder or a store"),
        (["stage", "--spec", "not-there.json"], 64, "cannot be read"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(
    arguments: list[str],
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["m2r", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("m2r: ")
    assert said.count("\n") == 1
    assert line in said
    assert ended.value.code == code
