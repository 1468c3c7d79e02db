"""What the commands share: the application, options, places, files that are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from m2r_train import completing
from m2r_train.api.errors import ConfigError

app = typer.Typer(
    name="m2r",
    help="Train multimodal reasoning models: data synthesis, SFT, RLVR, evaluation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
store_app = typer.Typer(help="Look after stores.", no_args_is_help=True)
app.add_typer(store_app, name="store")

Files = Annotated[
    list[Path], typer.Option("-f", "--file", help="Manifest file or folder; may be repeated.")
]
StoreUri = Annotated[
    str | None, typer.Option("--store", help="Where runs write, e.g. s3://bucket/prefix or a path.")
]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="URL of the S3 server.")]

DEFAULT_STORE: Final = "m2r-store"
INTERRUPTED: Final = 130  # as a shell reports SIGINT: nothing had begun that could be saved


def default_store() -> str:
    """Where runs write and are looked for without another word."""
    return os.environ.get("M2R_STORE", DEFAULT_STORE)


def known_runs(incomplete: str) -> list[str]:
    """Completes folders of runs in the default store."""
    return completing.runs(default_store(), incomplete)


def cache_dir() -> Path:
    """Where fetched inputs are kept: ``$M2R_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("M2R_CACHE") or Path(base) / "m2r") / "inputs"


def store_uri(given: str) -> str:
    """A plain path becomes absolute, so that a run names its results the same from anywhere."""
    return given if "://" in given else Path(given).absolute().as_uri()


def check_writable(path: Path | None) -> None:
    """Raises ConfigError, before any work, for a file that cannot be written in the end."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: cannot be written; name a file in a folder that exists")


def write_file(path: Path, text: str) -> None:
    """The whole text, or what was there before."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)
