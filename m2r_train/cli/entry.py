"""Where ``m2r`` begins: all commands are there, and errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from m2r_train import __version__, lifeline
from m2r_train.api.errors import M2RError, SpecError

# Each module adds its commands; the order is that of `m2r --help`.
from m2r_train.cli import running, showing, sweeping, tending  # noqa: F401
from m2r_train.cli.base import INTERRUPTED, app
from m2r_train.stages.stop import StopRequest


def main(stop: StopRequest | None = None) -> None:
    """The command line: a user's mistake is one line and the documented exit code, no traceback.

    ``stop`` is where signals are taken already.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = app(standalone_mode=False, obj=stop, prog_name="m2r")
        if code == INTERRUPTED:  # what typer turns Ctrl-C into
            raise KeyboardInterrupt
    except M2RError as error:
        for line in getattr(error, "lines", None) or [str(error)]:
            if not lifeline.is_held():  # else the launcher tells, once for all ranks
                _complain(line)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        _complain(_usage(error))
        sys.exit(SpecError.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted; the same command goes on from the last checkpoint")
        sys.exit(INTERRUPTED)


def _usage(error: typer.TyperException) -> str:
    """What is wrong with a command line, and where it is said how it is right."""
    context = getattr(error, "ctx", None)
    words = context.command_path.split()[1:] if context is not None else []
    wrong = " ".join(error.format_message().split()).rstrip(".?")
    return f"{wrong}; see `{' '.join(['m2r', *words, '--help'])}`"


def _complain(line: str) -> None:
    sys.stderr.write(f"m2r: {line}\n")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train multimodal reasoning models."""
    if version:
        typer.echo(f"m2r {__version__}")
        raise typer.Exit
