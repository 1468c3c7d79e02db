"""The exception tree of M2R; each class knows the exit code that it ends a run with.

    M2RError                    a failure with a message for people
     +- SpecError         64    the manifest is wrong
     +- DataError         65    the data is wrong or missing
     +- Preempted         75    asked to stop; state is saved
     +- FencedError       76    a newer attempt owns the run
     +- ConfigError       78    store, model or device cannot be used as configured
     +- Collapsed         79    the policy has collapsed and the run was told to end then

64, 65, 78 and 79 are permanent: repeating the run cannot help. Any other exception is a crash and
keeps its traceback. A message is one line that names the file or resource, the field, the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class M2RError(Exception):
    """Base class: ``str(error)`` is one line for people, ``exit_code`` the process's status."""

    exit_code: int = 1


class SpecError(M2RError):
    """The manifest is wrong (exit 64): names file, field and remedy."""

    exit_code = 64


class DataError(M2RError):
    """The data is wrong, missing or too often bad (exit 65)."""

    exit_code = 65


class Preempted(M2RError):  # noqa: N818 - not an error: the run was asked to stop and has saved
    """Asked to stop, state saved (exit 75): the same command goes on from here."""

    exit_code = 75


class FencedError(M2RError):
    """A newer attempt owns the run (exit 76): this process may write nothing more."""

    exit_code = 76


class ConfigError(M2RError):
    """Store, model or device cannot be used as configured (exit 78)."""

    exit_code = 78


class Collapsed(M2RError):  # noqa: N818 - no error of anybody: what the run was told to end with
    """The policy shows a sign of collapse, and the spec ends the run then (exit 79)."""

    exit_code = 79


@contextmanager
def naming(where: str) -> Iterator[None]:
    """A user's mistake inside the block is told with ``where`` in front of it."""
    try:
        yield
    except (SpecError, DataError, ConfigError) as error:
        error.args = (f"{where}: {error}", *error.args[1:])
        raise
