"""Disjoint splits that share no scene, and de-duplication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.roster import Roster, Rows, repeats

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """``kept`` in input order; ``duplicates`` say the same again; ``conflicting`` disagree.

    Two answers to one question make it unverifiable: all of its samples are conflicting, none
    is kept.
    """

    kept: list[Sample]
    duplicates: list[Sample]
    conflicting: list[Sample]


def deduplicate(samples: Iterable[Sample]) -> Deduplicated:
    """Keep the first of the samples with equal ``content_key``, if all agree on the answer."""
    own, roster = list(samples), Roster()
    for sample in own:
        roster.add(sample, sound=False)
    found = repeats(roster)
    return Deduplicated(
        *([own[row] for row in rows] for rows in (found.kept, found.duplicates, found.conflicting))
    )


def route(
    samples: Sequence[Sample],
    outputs: Mapping[str, int],
    seed: int,
    *,
    eligible: Callable[[Sample, str], bool] = lambda _sample, _split: True,
) -> dict[str, list[Sample]]:
    """:func:`deal` of samples in memory; ``eligible(sample, split)`` says where one may go."""
    roster = Roster()
    for sample in samples:
        roster.add(sample, sound=False)
    flags = {split: np.array([eligible(s, split) for s in samples], bool) for split in outputs}
    dealt = deal(roster, outputs, seed, eligible=flags)
    return {split: [samples[row] for row in rows] for split, rows in dealt.items()}


def deal(
    roster: Roster, outputs: Mapping[str, int], seed: int, *, eligible: Mapping[str, Flags]
) -> dict[str, Rows]:
    """Deal rows into disjoint splits of exactly the sizes asked for: {split: its rows}.

    A scene, that is all samples which share a picture, directly or through others, goes to one
    split only: a model must not be evaluated on pictures it was trained on. Where a scene is
    larger than the room left in a split, a part of it is taken and the rest is not used.
    ``eligible[split]`` (n,) says which rows may go there; the split with the least to choose
    from chooses first. The result depends on seed, ids and scenes, not on the order of rows,
    and each split comes in seeded order.

    Raises:
        DataError: fewer samples than asked for, or two samples with one id.
    """
    order = seeded(seed, "order", roster.ids, len(roster))
    _check_ids(roster, order)
    scene = roster.scenes()
    scenes = int(scene.max(initial=-1)) + 1
    rank = np.lexsort((order, scene))  # rows of a scene together, in seeded order
    begins = np.searchsorted(scene[rank], np.arange(scenes + 1))
    del scene
    names = (min(roster.ids[row] for row in rank[a:b]) for a, b in pairwise(begins))
    drawn = np.argsort(seeded(seed, "route", names, scenes), kind="stable")
    result = _Supply(rank, begins, drawn, eligible).shared_out(outputs)
    if _shortage(result, outputs):  # large scenes first leaves the small ones to fill the gaps
        by_size = drawn[np.argsort(-np.diff(begins)[drawn], kind="stable")]
        result = _Supply(rank, begins, by_size, eligible).shared_out(outputs)
    for split, given in _shortage(result, outputs).items():
        raise DataError(
            f"spec.outputs.{split}: {outputs[split]} samples asked for, {given} can be given (of "
            f"{len(roster)} in {scenes} scenes, which splits never share, for "
            f"{sum(outputs.values())} asked in all); add data or ask for fewer"
        )
    return {split: rows[np.argsort(order[rows], kind="stable")] for split, rows in result.items()}


def deal_by_weight(
    roster: Roster,
    outputs: Mapping[str, int],
    seed: int,
    *,
    eligible: Mapping[str, Flags],
    weights: Mapping[str, float],
    feeding: Mapping[str, Sequence[str]],
) -> dict[str, Rows]:
    """:func:`deal`, with a share of each split for each source that is ``feeding`` it.

    Where all weights are equal nobody has a share: each source gives what it has, as in ``deal``.
    Else a source of weight w gives w / (sum of the weights) of a split, to the nearest sample.

    Raises:
        DataError: as ``deal``; a source has less than its share, or sources share a scene, of
            which then parts would go to two splits.
    """
    if len(set(weights.values())) == 1:
        return deal(roster, outputs, seed, eligible=eligible)
    order = seeded(seed, "order", roster.ids, len(roster))
    _check_ids(roster, order)
    quotas = {split: _quotas(split, n, weights, feeding[split]) for split, n in outputs.items()}
    dealt: dict[str, list[Rows]] = {split: [] for split in outputs}
    for source in weights:
        rows = np.flatnonzero(roster.sources.among([source]))
        own = {s: eligible[s][rows] for s in outputs}
        wanted = {s: quotas[s].get(source, 0) for s in outputs}
        try:
            given = deal(roster.pick(rows), wanted, seed, eligible=own)
        except DataError as error:
            raise DataError(f"source {source}, by its weight: {error}") from error
        for split, picked in given.items():
            dealt[split].append(rows[picked])
    joined = {split: np.concatenate(parts) for split, parts in dealt.items()}
    _check_scenes(roster.scenes(), joined)
    return {split: rows[np.argsort(order[rows], kind="stable")] for split, rows in joined.items()}


def _quotas(
    split: str, n: int, weights: Mapping[str, float], feeding: Sequence[str]
) -> dict[str, int]:
    """Whole numbers of sum ``n`` in the ratio of the weights: largest remainders, then by name."""
    total = sum(weights[source] for source in feeding)
    if not total:
        raise DataError(
            f"spec.outputs.{split}: all sources that may feed it have weight 0; raise one of them"
        )
    exact = {source: n * weights[source] / total for source in feeding}
    quotas = {source: int(share) for source, share in exact.items()}
    by_remainder = sorted(feeding, key=lambda source: (quotas[source] - exact[source], source))
    for source in by_remainder[: n - sum(quotas.values())]:
        quotas[source] += 1
    return quotas


def _check_scenes(scene: Rows, dealt: Mapping[str, Rows]) -> None:
    taken: dict[int, str] = {}
    for split, rows in dealt.items():
        for number in map(int, np.unique(scene[rows])):
            if (other := taken.setdefault(number, split)) != split:
                raise DataError(
                    f"spec.sources: two sources share pictures, of which some would go to {other} "
                    f"and some to {split}; give all sources one weight, or make them one source"
                )


class _Supply:
    """What each scene could give to each split, scenes in the order in which they are dealt."""

    def __init__(
        self, rank: Rows, begins: Rows, scenes: Rows, eligible: Mapping[str, Flags]
    ) -> None:
        self._rank, self._begins, self._scenes = rank, begins, scenes
        self._flags = {split: flags[rank] for split, flags in eligible.items()}
        self._sizes = {
            split: np.diff(np.concatenate([[0], np.cumsum(flags)])[begins])[scenes].astype(np.int32)
            for split, flags in self._flags.items()
        }

    def shared_out(self, outputs: Mapping[str, int]) -> dict[str, Rows]:
        """Splits choose in turn, the one with the least to spare first; each may end up short."""
        spare = {split: int(self._sizes[split].sum()) - n for split, n in outputs.items()}
        free = np.ones(len(self._scenes), bool)
        result: dict[str, Rows] = {}
        for split in sorted(outputs, key=lambda split: (spare[split], split)):
            result[split], used = self._fill(split, free, outputs[split])
            free &= ~used
        return result

    def _fill(self, split: str, free: Flags, n: int) -> tuple[Rows, Flags]:
        """Rows for one split, whole scenes first, then one in part to reach ``n``; scenes used."""
        sizes = self._sizes[split]
        used = np.zeros(len(self._scenes), bool)
        smallest, room = -1, n
        for number in map(int, np.flatnonzero(free & (sizes > 0))):
            if sizes[number] <= room:
                used[number] = True
                room -= int(sizes[number])
            elif smallest < 0 or sizes[number] < sizes[smallest]:
                smallest = number
        whole = np.zeros(len(self._scenes), bool)
        whole[self._scenes] = used
        taken = np.repeat(whole, np.diff(self._begins)) & self._flags[split]
        if room and smallest >= 0:  # every scene passed over is larger than the room that is left
            used[smallest] = True
            scene = self._scenes[smallest]
            begin, end = self._begins[scene], self._begins[scene + 1]
            taken[begin + np.flatnonzero(self._flags[split][begin:end])[:room]] = True
        rows: Rows = self._rank[taken]
        return rows, used


def _shortage(result: Mapping[str, Rows], outputs: Mapping[str, int]) -> dict[str, int]:
    """{split: samples given} of the splits that got fewer than asked for."""
    return {split: len(result[split]) for split, n in outputs.items() if len(result[split]) < n}


def seeded(seed: int, purpose: str, ids: Iterable[str], count: int) -> NDArray[np.uint64]:
    """(count,) a random number for each id."""
    return np.fromiter((derive_seed(seed, purpose, one) for one in ids), np.uint64, count)


def _check_ids(roster: Roster, hashes: NDArray[np.uint64]) -> None:
    """``hashes`` (n,) are equal for equal ids."""
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    twice = sorted((int(order[k + 1]), int(order[k])) for k in again)
    for second, first in twice:
        if roster.ids[first] == roster.ids[second]:
            raise DataError(
                f"sources {roster.sources[first]} and {roster.sources[second]}: both have a sample "
                f"with id {roster.ids[first]!r}; make ids unique, or leave the id column out to "
                "have them made"
            )
