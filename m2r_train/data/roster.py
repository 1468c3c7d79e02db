"""What is known in memory of every sample: columns of a few bytes, whatever its pictures weigh.

De-duplication and routing need no more than this: what is asked (a hash), what is answered (a
hash), which pictures are shown (hashes), and whether the chain can be taught.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2r_train.core.records import Sample
from m2r_train.data.columns import Names, Texts

_RECENT_SETS = 4096  # of pictures, that are looked up again

Rows = NDArray[np.int64]


class Shown:
    """Sets of pictures, told by hashes: the pictures of a question. Questions about one scene that
    come together have one set between them.
    """

    def __init__(self) -> None:
        self.ends = array("q")  # of each set, in pictures
        self.pictures = bytearray()  # 8 bytes each
        self._recent: OrderedDict[bytes, int] = OrderedDict()

    def put(self, files: Sequence[bytes]) -> int:
        """The number of the set of these pictures."""
        hashes = b"".join(_digest(data, 8) for data in files)  # two of one hash would join scenes
        key = _digest(hashes, 16)
        if (number := self._recent.get(key)) is None:
            number = self._recent[key] = len(self.ends)
            self.pictures += hashes
            self.ends.append(len(self.pictures) // 8)
            if len(self._recent) > _RECENT_SETS:
                self._recent.popitem(last=False)
        return number

    def groups(self, sets: Rows) -> Rows:
        """(n,) for each of these different sets the place, among them, of the first set that it is
        joined with: by a common picture, directly or through others (union-find).
        """
        ends = np.frombuffer(self.ends, np.int64)
        sizes = np.diff(ends, prepend=0)[sets]
        owner = np.repeat(np.arange(len(sets)), sizes)
        take = np.repeat(ends[sets] - np.cumsum(sizes), sizes) + np.arange(len(owner))
        known = np.frombuffer(self.pictures, np.uint64)[take]
        by_picture = np.lexsort((owner, known))
        owner, known = owner[by_picture], known[by_picture]
        parent = array("q", np.arange(len(sets)).tobytes())

        def find(row: int) -> int:
            while parent[row] != row:
                parent[row] = parent[parent[row]]
                row = parent[row]
            return row

        for at in map(int, np.flatnonzero(known[1:] == known[:-1])):
            a, b = find(int(owner[at])), find(int(owner[at + 1]))
            parent[max(a, b)] = min(a, b)  # so that a root is the first of its group
        return np.fromiter((find(row) for row in range(len(sets))), np.int64, len(sets))


@dataclass(slots=True)
class Roster:
    """Columns, one entry a sample: some fifty bytes and the id, and eight for each picture of a set
    that is new. What `pick` gives shares ids, names and sets of pictures with what it is from.
    """

    ids: Texts = field(default_factory=Texts)
    sources: Names = field(default_factory=Names)
    asked: bytearray = field(default_factory=bytearray)  # content_key, 16 bytes
    meant: bytearray = field(default_factory=bytearray)  # of the answer, 8 bytes
    sound: bytearray = field(default_factory=bytearray)  # 1: its chain can be taught
    sets: array[int] = field(default_factory=lambda: array("q"))  # numbers of `shown`
    shown: Shown = field(default_factory=Shown)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, sample: Sample, *, sound: bool) -> None:
        """The next row."""
        self.ids.append(sample.id)
        self.sources.append(sample.source)
        self.asked += content_key(sample)
        self.meant += _digest(_meaning(sample).encode(), 8)
        self.sound.append(sound)
        self.sets.append(self.shown.put((*sample.images, *(sample.video or ()))))

    def pick(self, rows: Sequence[int] | Rows) -> Roster:
        """What routing needs of those rows, in that order: all but ``asked`` and ``meant``."""
        index = np.asarray(rows, np.int64)
        return Roster(
            ids=self.ids.pick(index),
            sources=self.sources.pick(index),
            sound=bytearray(np.frombuffer(self.sound, np.uint8)[index].tobytes()),
            sets=array("q", np.frombuffer(self.sets, np.int64)[index].tobytes()),
            shown=self.shown,
        )

    def scenes(self) -> Rows:
        """(n,) number of each row's scene, from 0 without gaps.

        A scene is all samples that share a picture, directly or through others; a sample without
        one is a scene of its own.
        """
        sets, place = np.unique(np.frombuffer(self.sets, np.int64), return_inverse=True)
        group = self.shown.groups(sets)[place]
        empty = np.diff(np.frombuffer(self.shown.ends, np.int64), prepend=0)[sets] == 0
        alone = empty[place]
        group[alone] = len(sets) + np.arange(np.count_nonzero(alone))
        numbers: Rows = np.unique(group, return_inverse=True)[1]
        return numbers


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows: ``kept`` in order; ``duplicates`` say the same again; ``conflicting`` disagree."""

    kept: Rows
    duplicates: Rows
    conflicting: Rows


def repeats(roster: Roster, rows: Sequence[int] | None = None) -> Repeats:
    """The first of rows that ask the same is kept, if all of them agree on the answer.

    Of ``rows`` alone, in that order, where they are given; the result counts among them.
    """
    index = np.arange(len(roster)) if rows is None else np.asarray(rows, np.int64)
    n = len(index)
    if n == 0:
        none = np.empty(0, np.int64)
        return Repeats(none, none, none)
    asked = np.frombuffer(roster.asked, np.uint64).reshape(-1, 2)[index]
    meant = np.frombuffer(roster.meant, np.uint64)[index]
    order = np.lexsort((asked[:, 1], asked[:, 0]))  # stable: equal rows stay in order
    begins = np.zeros(n, bool)
    begins[0] = True
    for half in (0, 1):
        column = asked[order, half]
        begins[1:] |= column[1:] != column[:-1]
    del asked, column
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
