"""``m2r sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from m2r_train.api.errors import ConfigError
from m2r_train.cli.base import (
    Endpoint,
    StoreUri,
    app,
    cache_dir,
    check_writable,
    default_store,
    store_uri,
    write_file,
)
from m2r_train.stages.stop import StopRequest


@app.command()
def sweep(
    file: Annotated[
        Path | None, typer.Argument(help="The sweep: base manifests, arms, seeds.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", help="Instead: base manifests, whose fields --set changes."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="RESOURCE.spec.FIELD=V1,V2: an arm for each combination."),
    ] = None,
    store: StoreUri = None,
    endpoint: Endpoint = None,
    seeds: Annotated[str | None, typer.Option(help="Instead of the file's: 0-4 or 0,3.")] = None,
    lanes: Annotated[
        int, typer.Option("-j", "--lanes", min=1, max=256, help="Runs at once, a thread each.")
    ] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the manifests here for kubectl apply, and run none.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the manifests with kubectl, and run none here.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="With --apply: where.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a JSON summary here.")] = None,
) -> None:
    """Run arms that differ in a few fields, each with every seed; resumes what is there."""
    from m2r_train.api.runspec import RunStorage
    from m2r_train.sweeps.ablation import OPTION, ablation
    from m2r_train.sweeps.command import board_of, planned, run_sweep
    from m2r_train.sweeps.telling import (
        apply_manifests,
        manifests_text,
        plan_table,
        sweep_summary,
        write_manifests,
    )

    if bool(file) == bool(files and sets) or bool(files) != bool(sets):
        raise ConfigError("a sweep's file, or -f FILE with --set PATH=V1,V2; give one of both")
    if namespace is not None and not apply:
        raise ConfigError("--namespace needs --apply; add it")
    made = ablation(files, sets) if files and sets else None
    runs = planned(file or OPTION, seeds, made)
    if apply:
        typer.echo(apply_manifests(runs, namespace), nl=False)
        return
    if made is not None and store is None and write is None and not plan:
        typer.echo(manifests_text(runs), nl=False)
        return
    if write is not None:
        for path in write_manifests(runs, write):
            typer.echo(path)
        return
    check_writable(summary)
    uri = store_uri(store or default_store())
    stop = StopRequest()
    with stop.listening():
        board = board_of(runs, RunStorage(uri=uri, endpoint=endpoint), cache_dir())
        if plan:
            typer.echo(plan_table(board), nl=False)
            return
        try:
            run_sweep(board, lanes, stop)
        finally:
            if summary is not None:
                write_file(
                    summary, json.dumps(sweep_summary(board), indent=1, sort_keys=True) + "\n"
                )
