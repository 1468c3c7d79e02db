"""Each picture once: nobody asks a vision tower twice about one picture of a step.

While the tower is frozen, what it makes of a picture is the same in the rollout, in the policy's
passes and in the reference's, and copies of a policy share it. A picture's tokens may differ in
the last bits with the pictures beside it, so a step shows its pictures once, in order, before
anything else: a step whose rollouts come from a journal then computes with the same bits.

Shapes: M visual tokens of a picture, D hidden size of the language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from m2r_train.model.vision import Clip, Picture

Tower = Callable[[Sequence[Picture]], Sequence[Tensor]]
"""Visual tokens (M, D) of each picture."""

_SHOWN_PIXELS = 1 << 22  # pictures that go through the tower together, which bounds memory


def key_of(picture: Picture) -> bytes:
    """What tells pictures and clips apart: their size and pixels."""
    frames = picture.frames if isinstance(picture, Clip) else (picture,)
    what = (isinstance(picture, Clip), [(frame.size, frame.mode) for frame in frames])
    digest = hashlib.blake2b(repr(what).encode(), digest_size=16)
    for frame in frames:
        digest.update(frame.tobytes())
    return digest.digest()


class Sight:
    """Visual tokens of the pictures of a step, kept on the host, for a tower that is frozen."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Tensor] = {}

    def show(self, pictures: Sequence[Picture], tower: Tower, *, more: bool) -> None:
        """Keep what the tower makes of these pictures; forget all others, unless these are more."""
        if not more:
            self._kept.clear()
        new = {key_of(p): p for p in pictures}
        new = {key: p for key, p in new.items() if key not in self._kept}
        with torch.no_grad():
            for part in _parts(list(new.items())):
                made = tower([picture for _, picture in part])
                for (key, _), tokens in zip(part, made, strict=True):
                    self._kept[key] = tokens.cpu()

    def find(self, key: bytes) -> Tensor | None:
        """Visual tokens of a picture that was shown, on the host."""
        return self._kept.get(key)


def tokens_of(
    pictures: Sequence[Picture], tower: Tower, sight: Sight | None, device: torch.device
) -> Tensor:
    """Visual tokens (sum M, D) of pictures in order; the tower sees each distinct one once.

    What ``sight`` has kept is taken from it; the rest has gradients where the tower has.
    """
    keys = [key_of(picture) for picture in pictures]
    found: dict[bytes, Tensor] = {}
    new: dict[bytes, Picture] = {}
    for key, picture in zip(keys, pictures, strict=True):
        kept = sight.find(key) if sight is not None else None
        if kept is not None:
            found[key] = kept.to(device)
        else:
            new[key] = picture
    if new:
        found |= zip(new, tower(list(new.values())), strict=True)
    return torch.cat([found[key] for key in keys])


def _parts(items: Sequence[tuple[bytes, Picture]]) -> Iterator[list[tuple[bytes, Picture]]]:
    part: list[tuple[bytes, Picture]] = []
    pixels = 0
    for item in items:
        size = _pixels(item[1])
        if part and pixels + size > _SHOWN_PIXELS:
            yield part
            part, pixels = [], 0
        part.append(item)
        pixels += size
    if part:
        yield part


def _pixels(picture: Picture) -> int:
    frames = picture.frames if isinstance(picture, Clip) else (picture,)
    return sum(frame.width * frame.height for frame in frames)
