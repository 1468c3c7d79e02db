"""Shell completion: the script for each shell, and what stands where a word is to be completed.

A key press must not wait for a network: runs are completed from a store on this machine alone.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

# What `--show-completion` prints, for a shell that is named instead of guessed.
from typer.completion import get_completion_script  # type: ignore[attr-defined]

MOST: Final = 200  # runs that are offered; more are no help
_SPEC: Final = "*/*/*/spec.json"  # <namespace>/<kind>/<name>-<uid8>, as the report finds runs


class Shell(StrEnum):
    """Shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Shell) -> str:
    """What a shell must read to complete the words of ``m2r``."""
    return get_completion_script(prog_name="m2r", complete_var="_M2R_COMPLETE", shell=shell.value)


def runs(store: str, incomplete: str) -> list[str]:
    """Folders of runs in a local store that begin with what was typed.

    ``store``: a path or a ``file://`` URI; of any other store there are none.
    """
    if "://" in store:
        parts = urlsplit(store)
        if parts.scheme != "file":
            return []
        store = unquote(parts.path)
    found = (str(spec.parent) for spec in Path(store).glob(_SPEC))
    return sorted(islice((run for run in found if run.startswith(incomplete)), MOST))


def benchmarks(incomplete: str) -> list[str]:
    """Names of the benchmarks that ``m2r score`` knows."""
    from m2r_train.benchmarks.registry import BENCHMARKS  # noqa: PLC0415 - only when it is asked

    return sorted(name for name in BENCHMARKS if name.startswith(incomplete))
