"""What a run's first attempt has found and later ones have to find again: digests by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from m2r_train.api.errors import DataError
from m2r_train.store.base import NotFound, ObjectStore, PreconditionFailed

PINS: Final = "own-rewards.json"


def pinned(store: ObjectStore, found: Mapping[str, str]) -> Mapping[str, str]:
    """The digests that the run in ``store`` began with; ``found``, which is written, for its first
    attempt.

    Equal attempts write equal bytes, so that it does not matter whose come first. Raises
    ``DataError`` where what was written cannot be read.
    """
    with suppress(PreconditionFailed):
        store.put_if(PINS, json.dumps(dict(found), sort_keys=True).encode(), if_match=None)
        return found
    try:
        kept = json.loads(store.get(PINS).data)
        return {str(name): str(digest) for name, digest in kept.items()}
    except NotFound:  # somebody removes the run meanwhile
        return found
    except (ValueError, AttributeError):
        raise DataError(
            f"{store.uri}/{PINS} is damaged; put it back as it was, or begin a new run"
        ) from None
