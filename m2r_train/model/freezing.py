"""Which parameters of a Qwen2.5-VL stay as they are, by the names that ``freeze`` knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from m2r_train.api.errors import ConfigError

VISUAL: Final = "model.visual."  # names of the vision tower's parameters begin so
_PROJECTOR: Final = "model.visual.merger."
_EMBEDDINGS: Final = "model.language_model.embed_tokens."
_HEAD: Final = "lm_head."

# (names that begin so belong to the part, except those that begin so)
_PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "Vision": ((VISUAL,), (_PROJECTOR,)),
        "Projector": ((_PROJECTOR,), ()),
        "Language": (("model.language_model.", _HEAD), ()),
        "Embeddings": ((_EMBEDDINGS,), ()),
        "Head": ((_HEAD,), ()),
    }
)


def frozen_names(
    names: Iterable[str], freeze: Sequence[str], *, freeze_vision: bool, where: str
) -> frozenset[str]:
    """Those of the parameters ``names`` that a spec keeps from learning.

    A head that is tied to the embeddings has no name of its own: it goes with them. Raises
    ``ConfigError``, which begins with the field ``where``, for an entry that fits no parameter, or
    where nothing is left to learn.
    """
    every = list(names)
    frozen: set[str] = set()
    if freeze_vision:
        frozen |= _part(every, "Vision") | _part(every, "Projector")
    for number, entry in enumerate(freeze):
        own = (
            _part(every, entry) if entry in _PARTS else {n for n in every if fnmatchcase(n, entry)}
        )
        if not own and entry == "Head":
            raise ConfigError(
                f"{where}[{number}]: the head of this model is its embeddings; write Embeddings"
            )
        if not own:
            raise ConfigError(
                f"{where}[{number}]: {entry!r} fits no parameter; write one of "
                f"{', '.join(_PARTS)}, or a pattern of names such as {every[0]!r}"
            )
        frozen |= own
    if len(frozen) == len(set(every)):
        raise ConfigError(f"{where}: leaves nothing to learn; freeze less")
    return frozenset(frozen)


def _part(names: Iterable[str], part: str) -> set[str]:
    inside, outside = _PARTS[part]
    return {n for n in names if n.startswith(inside) and not (outside and n.startswith(outside))}
