"""Identities of objects that are known to be deleted, so that late news cannot bring them back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SIZE: Final = 4096


class Graves:
    """The uids of the last `SIZE` deleted objects."""

    def __init__(self) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()

    def add(self, uid: str) -> None:
        """Remember that an object is gone for good."""
        self._uids[uid] = None
        if len(self._uids) > SIZE:
            self._uids.popitem(last=False)

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids
