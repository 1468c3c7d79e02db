"""Commands about manifests, stores and the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2r_train import completing
from m2r_train.api.errors import ConfigError, M2RError
from m2r_train.cli.base import Endpoint, Files, app, store_app, store_uri


@app.command()
def validate(
    file: Files,
    alone: Annotated[
        bool, typer.Option("--alone", help="Accept references to resources that are not given.")
    ] = False,
) -> None:
    """Check manifests: the verdict of the API server, with field and remedy."""
    from m2r_train.api import load_manifests, order

    resources = order(load_manifests(file), external=alone)
    for resource in resources:
        typer.echo(f"{resource.where}: valid")


@app.command()
def crds(
    check: Annotated[bool, typer.Option("--check", help="Fail if the files differ.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the CRDs.")] = Path("crds"),
    docs: Annotated[Path, typer.Option(help="Folder of the reference pages.")] = Path(
        "docs/reference"
    ),
) -> None:
    """Write the CRDs and the reference pages, or check that they are fresh."""
    from m2r_train.api.crdgen import check_crds, write_crds
    from m2r_train.api.docsgen import check_docs, write_docs

    if check:
        stale = [*check_crds(out), *check_docs(docs)]
        if stale:
            raise M2RError(f"not fresh: {', '.join(map(str, stale))}; run `m2r crds`")
        return
    for path in [*write_crds(out), *write_docs(docs)]:
        typer.echo(path)


@app.command()
def completion(
    shell: Annotated[completing.Shell, typer.Argument(help="Whose words are completed.")],
) -> None:
    """Print the script that completes commands, options, runs: eval "$(m2r completion bash)"."""
    typer.echo(completing.script(shell))


@store_app.command("check")
def store_check(
    uri: Annotated[str, typer.Argument(help="Store to check.")], endpoint: Endpoint = None
) -> None:
    """Prove that a store has the conditional writes that the promises need."""
    from m2r_train.store import check_store, open_store

    result = check_store(open_store(store_uri(uri), endpoint=endpoint))
    typer.echo(str(result))
    if not result.ok:
        raise ConfigError(f"{uri}: this store is not safe for checkpoints; use another one")
