"""A sweep for people and for ``kubectl``: the plan as a table, the summary, files of manifests."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from m2r_train.api.errors import ConfigError
from m2r_train.api.manifests import SUFFIXES
from m2r_train.runner import summary
from m2r_train.sweeps.expansion import Planned
from m2r_train.sweeps.running import Board
from m2r_train.telemetry.tables import markdown


def plan_rows(board: Board) -> list[tuple[str, str, str, str, str]]:
    """(run, arm, seed, shared, done) of each, as words."""
    return [
        (
            f"{run.resource.kind}/{run.resource.name}",
            run.arm or "",
            "" if run.seed is None else str(run.seed),
            "" if run.arm else "all arms" if run.seed is not None else "everything",
            "done" if board.is_done(run) else "",
        )
        for run in board.runs
    ]


def plan_table(board: Board) -> str:
    """The plan as it is printed, and how much of it is left."""
    rows = plan_rows(board)
    columns = ("Run", "Arm", "Seed", "Shared by", "Done")
    left = sum(not row[-1] for row in rows)
    return markdown(columns, frozenset({2}), rows) + f"\n{left} of {len(rows)} runs to do\n"


def sweep_summary(board: Board) -> dict[str, Any]:
    """As that of ``m2r run``, with base, arm, seed and folder of each; then what failed."""
    known = {(r.resource.namespace, r.resource.kind, r.resource.name): r for r in board.runs}
    resources = []
    for key, one in board.finished.items():
        run = known[key]
        (told,) = summary([one])["resources"]
        resources.append(
            {**told, "base": run.base, "arm": run.arm, "seed": run.seed, "uri": one.uri}
        )
    return {"resources": resources, "failed": board.complaints()}


def manifests_text(runs: Sequence[Planned]) -> str:
    """All manifests as one stream of YAML documents."""
    return yaml.safe_dump_all(
        [dict(run.document) for run in runs], sort_keys=False, allow_unicode=True
    )


def apply_manifests(runs: Sequence[Planned], namespace: str | None) -> str:
    """``kubectl apply`` of all manifests; what it printed.

    Raises ConfigError where there is no kubectl, or where it refused.
    """
    command = ["kubectl", "apply", "-f", "-", *(["--namespace", namespace] if namespace else [])]
    try:
        done = subprocess.run(
            command, input=manifests_text(runs), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ConfigError("--apply: there is no kubectl; install it, or use --write") from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ConfigError(f"--apply: {said}; correct that and apply again")
    return done.stdout


def write_manifests(runs: Sequence[Planned], folder: Path) -> list[Path]:
    """Each manifest as a file of ``folder``, for ``kubectl apply -f``.

    Raises ConfigError where the folder holds other manifests: they would be applied too.
    """
    texts = {
        f"{run.resource.kind.lower()}-{run.resource.name}.yaml": yaml.safe_dump(
            dict(run.document), sort_keys=False, allow_unicode=True
        )
        for run in runs
    }
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; name another")
    there = [p.name for p in folder.iterdir() if p.suffix in SUFFIXES] if folder.exists() else []
    strangers = sorted(set(there) - texts.keys())
    if strangers:
        raise ConfigError(f"{folder}: holds {strangers[0]} of something else; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        paths.append(path)
    return paths
