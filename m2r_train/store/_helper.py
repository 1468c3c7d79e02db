"""A pod that works beside a run's owner: it adds to the journal, and claims and commits nothing."""

from __future__ import annotations

from m2r_train.api.errors import FencedError
from m2r_train.store._head import Damaged, read_head
from m2r_train.store._journal import HELPERS, Journal
from m2r_train.store.base import ObjectStore


class RunFinished(Exception):  # noqa: N818 - a finding that the helper acts on
    """The run is done, so there is nothing to help with."""


class Helper:
    """The run in ``store`` as a helper of ``attempt`` sees it; the owner may not have begun yet."""

    def __init__(self, store: ObjectStore, attempt: int) -> None:
        self.store = store
        self._attempt = attempt
        self._journal = Journal(store, HELPERS)

    def journal_put(self, key: str, data: bytes) -> None:
        """Keeps a part that is a function of its key. Raises as :meth:`verify_fence`.

        The owner clears the journal when the run is done; an entry that comes after that goes.
        """
        self._journal.put(key, data)
        try:
            self.verify_fence()
        except (RunFinished, FencedError):
            self._journal.delete(key)
            raise

    def journal_get(self, key: str) -> bytes | None:
        """What anybody has kept under ``key``; None if nothing intact is there."""
        return self._journal.get(key)

    def journal_keys(self) -> set[str]:
        """Keys that have an entry, read afresh."""
        self._journal.refresh()
        return self._journal.keys()

    def verify_fence(self) -> None:
        """Raises ``RunFinished`` if the run is done, ``FencedError`` if a newer attempt owns it."""
        try:
            head = read_head(self.store)
        except Damaged:
            return  # the owner finds out, and the next claim recovers it
        if head is None:
            return
        if head.attempt > self._attempt:
            raise FencedError(
                f"{self.store.uri}: attempt {self._attempt} is fenced: attempt {head.attempt} "
                "owns the run"
            )
        if head.done:
            raise RunFinished
