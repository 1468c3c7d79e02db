"""Disjoint splits that share no scene, and de-duplication."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """``kept`` in input order; ``duplicates`` say the same again; ``conflicting`` disagree.

    Two answers to one question make it unverifiable: all of its samples are conflicting, none
    is kept.
    """

    kept: list[Sample]
    duplicates: list[Sample]
    conflicting: list[Sample]


def content_key(sample: Sample) -> str:
    """What a question asks, as a 128-bit hash: its text, options and pictures, not its answer.

    Case, blanks and the order of options do not count. Unicode is composed (NFC) but not folded:
    NFKC would make x² and x2 the same question.
    """
    digest = hashlib.blake2b(digest_size=16)
    for group in (
        [_plain(sample.question).encode()],
        sorted(_plain(option).encode() for option in sample.options or ()),
        sample.images,
        sample.video or (),
    ):
        digest.update(len(group).to_bytes(4, "little"))
        for part in group:
            digest.update(_digest(part))
    return digest.hexdigest()


def deduplicate(samples: Iterable[Sample]) -> Deduplicated:
    """Keep the first of the samples with equal :func:`content_key`, if all agree on the answer."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(content_key(sample), []).append(sample)
    kept, duplicates, conflicting = [], [], []
    for group in groups.values():
        if len({_meaning(sample) for sample in group}) > 1:
            conflicting += group
        else:
            kept.append(group[0])
            duplicates += group[1:]
    return Deduplicated(kept, duplicates, conflicting)


def route(
    samples: Sequence[Sample],
    outputs: Mapping[str, int],
    seed: int,
    *,
    eligible: Callable[[Sample, str], bool] = lambda _sample, _split: True,
) -> dict[str, list[Sample]]:
    """Deal samples into disjoint splits of exactly the sizes asked for: {split: its samples}.

    A scene, that is all samples which share a picture, directly or through others, goes to one
    split only: a model must not be evaluated on pictures it was trained on. Where a scene is
    larger than the room left in a split, a part of it is taken and the rest is not used.
    ``eligible(sample, split)`` says where a sample may go; the split with the least to choose
    from chooses first. The result depends on seed, ids and scenes, not on the order of samples,
    and each split comes in seeded order.

    Raises:
        DataError: fewer samples than asked for, or two samples with one id.
    """
    _check_ids(samples)
    scenes = [
        sorted(scene, key=lambda sample: derive_seed(seed, "order", sample.id))
        for scene in _scenes(samples)
    ]
    scenes.sort(key=lambda scene: derive_seed(seed, "route", min(s.id for s in scene)))
    result = _deal(scenes, outputs, eligible)
    if _shortage(result, outputs):  # large scenes first leaves the small ones to fill the gaps
        result = _deal(sorted(scenes, key=len, reverse=True), outputs, eligible)
    for split, given in _shortage(result, outputs).items():
        raise DataError(
            f"spec.outputs.{split}: {outputs[split]} samples asked for, {given} can be given (of "
            f"{len(samples)} in {len(scenes)} scenes, which splits never share, for "
            f"{sum(outputs.values())} asked in all); add data or ask for fewer"
        )
    return {
        split: sorted(result[split], key=lambda sample: derive_seed(seed, "order", sample.id))
        for split in outputs
    }


def _shortage(result: Mapping[str, list[Sample]], outputs: Mapping[str, int]) -> dict[str, int]:
    """{split: samples given} of the splits that got fewer than asked for."""
    return {split: len(result[split]) for split, n in outputs.items() if len(result[split]) < n}


def _deal(
    scenes: Sequence[Sequence[Sample]],
    outputs: Mapping[str, int],
    eligible: Callable[[Sample, str], bool],
) -> dict[str, list[Sample]]:
    """Splits choose in turn, the one with the least to spare first; each may end up short."""
    supply = {  # what each scene could give to each split
        split: [[s for s in scene if eligible(s, split)] for scene in scenes] for split in outputs
    }
    spare = {split: sum(map(len, supply[split])) - n for split, n in outputs.items()}
    free = set(range(len(scenes)))
    result: dict[str, list[Sample]] = {}
    for split in sorted(outputs, key=lambda split: (spare[split], split)):
        chosen = _fill(supply[split], sorted(free), outputs[split])
        free -= chosen.keys()
        result[split] = [sample for part in chosen.values() for sample in part]
    return result


def _fill(
    supply: Sequence[Sequence[Sample]], free: Iterable[int], n: int
) -> dict[int, list[Sample]]:
    """Scenes, by number, for one split: whole ones first, then one in part to reach ``n``."""
    chosen: dict[int, list[Sample]] = {}
    passed: list[int] = []
    room = n
    for index in free:
        if 0 < len(supply[index]) <= room:
            chosen[index] = list(supply[index])
            room -= len(supply[index])
        elif supply[index]:
            passed.append(index)
    if room and passed:  # every scene passed over is larger than the room that is left
        smallest = min(passed, key=lambda index: len(supply[index]))
        chosen[smallest] = list(supply[smallest][:room])
    return chosen


def _scenes(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Samples connected through shared pictures (union-find), each scene in order of its ids."""
    ordered = sorted(samples, key=lambda sample: sample.id)
    parent = list(range(len(ordered)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    owner: dict[bytes, int] = {}
    for index, sample in enumerate(ordered):
        for picture in (*sample.images, *(sample.video or ())):
            parent[find(index)] = find(owner.setdefault(_digest(picture), index))
    scenes: dict[int, list[Sample]] = {}
    for index, sample in enumerate(ordered):
        scenes.setdefault(find(index), []).append(sample)
    return list(scenes.values())


def _check_ids(samples: Iterable[Sample]) -> None:
    sources: dict[str, str] = {}
    for sample in samples:
        if sample.id in sources:
            raise DataError(
                f"sources {sources[sample.id]} and {sample.source}: both have a sample with id "
                f"{sample.id!r}; make ids unique, or leave the id column out to have them made"
            )
        sources[sample.id] = sample.source


def _meaning(sample: Sample) -> str:
    """An answer for comparison between duplicates: the option's text, the number's value."""
    answer = _plain(sample.answer)
    if sample.answer_type == "choice" and sample.options and len(answer) == 1:
        index = ord(answer) - ord("a")
        if 0 <= index < len(sample.options):  # options may stand in another order
            return _plain(sample.options[index])
    if sample.answer_type == "number":
        try:
            return repr(float(answer))
        except ValueError:
            return answer
    return answer


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
