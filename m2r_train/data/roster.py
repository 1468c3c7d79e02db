"""What is known in memory of every sample: columns of a few bytes, whatever its pictures weigh.

De-duplication and routing need no more than this: what is asked (a hash), what is answered (a
hash), which pictures are shown (hashes), and whether the chain can be taught.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2r_train.core.records import Sample

Rows = NDArray[np.int64]


@dataclass(slots=True)
class Roster:
    """Columns, one entry a sample; ``pictures`` has ``shown[row]`` entries a sample."""

    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    asked: bytearray = field(default_factory=bytearray)  # content_key, 16 bytes
    meant: bytearray = field(default_factory=bytearray)  # of the answer, 8 bytes
    sound: bytearray = field(default_factory=bytearray)  # 1: its chain can be taught
    shown: array[int] = field(default_factory=lambda: array("l"))
    pictures: bytearray = field(default_factory=bytearray)  # 8 bytes each

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, sample: Sample, *, sound: bool) -> None:
        """The next row."""
        self.ids.append(sample.id)
        self.sources.append(sample.source)
        self.asked += content_key(sample)
        self.meant += _digest(_meaning(sample).encode(), 8)
        self.sound.append(sound)
        files = (*sample.images, *(sample.video or ()))
        self.shown.append(len(files))
        for data in files:
            self.pictures += _digest(data, 8)  # two pictures of one hash would join two scenes

    def pick(self, rows: Sequence[int] | Rows) -> Roster:
        """Those rows, in that order."""
        index = np.asarray(rows, np.int64)
        shown = np.array(self.shown, np.int64)
        begins = (np.cumsum(shown) - shown)[index]
        shown = shown[index]
        take = np.repeat(begins - (np.cumsum(shown) - shown), shown) + np.arange(shown.sum())
        picked = np.frombuffer(self.pictures, np.uint64)[take]
        return Roster(
            ids=[self.ids[r] for r in index],
            sources=[self.sources[r] for r in index],
            asked=_rows(self.asked, 16, index),
            meant=_rows(self.meant, 8, index),
            sound=_rows(self.sound, 1, index),
            shown=array("l", shown.tolist()),
            pictures=bytearray(picked.tobytes()),
        )

    def scenes(self) -> Rows:
        """(n,) number of each row's scene, counted in order of ids.

        A scene is all samples that share a picture, directly or through others (union-find).
        """
        n = len(self)
        ordered = sorted(range(n), key=self.ids.__getitem__)
        rank = np.empty(n, np.int64)
        rank[ordered] = np.arange(n)
        owner = np.repeat(rank, np.array(self.shown, np.int64))  # of each picture, as a rank
        known = np.frombuffer(self.pictures, np.uint64)
        by_picture = np.lexsort((owner, known))
        owner, known = owner[by_picture], known[by_picture]
        parent = array("q", range(n))

        def find(row: int) -> int:
            while parent[row] != row:
                parent[row] = parent[parent[row]]
                row = parent[row]
            return row

        for at in np.flatnonzero(known[1:] == known[:-1]).tolist():
            a, b = find(int(owner[at])), find(int(owner[at + 1]))
            parent[max(a, b)] = min(a, b)  # so that a root is the first of its scene
        roots = np.fromiter((find(row) for row in range(n)), np.int64, n)
        number = np.cumsum(roots == np.arange(n)) - 1
        scenes: Rows = number[roots][rank]
        return scenes


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows: ``kept`` in order; ``duplicates`` say the same again; ``conflicting`` disagree."""

    kept: Rows
    duplicates: Rows
    conflicting: Rows


def repeats(roster: Roster) -> Repeats:
    """The first of rows that ask the same is kept, if all of them agree on the answer."""
    n = len(roster)
    if n == 0:
        none = np.empty(0, np.int64)
        return Repeats(none, none, none)
    asked = np.frombuffer(roster.asked, np.uint64).reshape(n, 2)
    meant = np.frombuffer(roster.meant, np.uint64)
    order = np.lexsort((asked[:, 1], asked[:, 0]))  # stable: equal rows stay in order
    begins = np.ones(n, bool)
    begins[1:] = (asked[order[1:]] != asked[order[:-1]]).any(axis=1)
    group = np.cumsum(begins) - 1
    first = order[begins]
    at_odds = np.zeros(len(first), bool)
    np.logical_or.at(at_odds, group, meant[order] != meant[first[group]])
    rows_at_odds = at_odds[group]
    kept = np.sort(first[~at_odds])
    by_group = np.lexsort((order, first[group]))  # groups as their first rows come
    order, begins, rows_at_odds = order[by_group], begins[by_group], rows_at_odds[by_group]
    return Repeats(
        kept=kept,
        duplicates=order[~begins & ~rows_at_odds],
        conflicting=order[rows_at_odds],
    )


def content_key(sample: Sample) -> bytes:
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
            digest.update(_digest(part, 16))
    return digest.digest()


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


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _rows(column: bytearray, width: int, index: Rows) -> bytearray:
    table = np.frombuffer(column, np.uint8).reshape(-1, width)
    return bytearray(table[index].tobytes())
