"""A policy's parameters as a stream of groups, for engines that keep a copy of their own.

One group is one decoder layer, one block of the vision tower, or one module beside them: small
enough to be gathered and sent one after the other, and never less than what an engine fuses into
one of its own tensors (query, key and value; gate and up).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from m2r_train.model.lora import is_adapter, merged

Gather = Callable[[Sequence[nn.Parameter]], AbstractContextManager[object]]
_LAYER = re.compile(r"^(.*?\.(?:layers|blocks)\.\d+)\.")


def group_names(names: Iterable[str]) -> list[list[str]]:
    """Parameter names in order, cut into groups: by layer, else by the module that owns them."""
    groups: dict[str, list[str]] = {}
    for name in names:
        found = _LAYER.match(name)
        groups.setdefault(found[1] if found else name.rpartition(".")[0], []).append(name)
    return list(groups.values())


def stream(
    module: nn.Module, gather: Gather = lambda _parameters: nullcontext()
) -> Iterator[tuple[str, Tensor]]:
    """Every parameter with its name, a tied one once, group by group; adapters are merged.

    Each group is read inside ``gather(parameters)``: where parameters are sharded, that makes them
    whole (DeepSpeed's ``zero.GatheredParameters``), for no more than one group at a time. Every
    process has to read the stream to its end, or the others wait in a gather for ever.
    """
    named = dict(module.named_parameters())
    for names in group_names(named):
        own = [named[name] for name in names]
        with gather(own):
            for name, parameter in zip(names, own, strict=True):
                if not is_adapter(name):
                    yield name, merged(module, name, parameter)
