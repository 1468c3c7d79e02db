"""Never train on the test: samples that a benchmark holds, and samples that say the same again.

Pictures are compared by a perceptual hash (``core.picturehash``), questions by their words
(``core.overlap``). Two questions about different pictures are different questions, so that
near-duplicates must agree in their pictures, their numbers, their options and their answer.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from m2r_train.core.minhash import NearIndex
from m2r_train.core.overlap import Text, TextIndex, runs_of, words_of
from m2r_train.core.picturehash import SIDE, WORDS, Hashes, distances, picture_hash
from m2r_train.core.records import Sample
from m2r_train.data.images import decode

_NUMBER = re.compile(r"\d+")
_RECENT_PICTURES = 4096  # whose hashes are kept
_RUN_WORDS = 3  # of which the similarity of near-duplicates is made
_NO_PICTURES: array[int] = array("Q")  # the shelf of those who have none: one for all


class Hasher:
    """Hashes of encoded pictures; of recent ones without decoding (samples of a scene share it)."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Hashes | None] = OrderedDict()

    def __call__(self, data: bytes) -> Hashes | None:
        """(WORDS,) or None for a picture of one tone; the file has passed ``images.decode``."""
        key = hashlib.blake2b(data, digest_size=16).digest()
        if key not in self._known:
            grey = decode(data).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
            self._known[key] = picture_hash(np.asarray(grey))
            if len(self._known) > _RECENT_PICTURES:
                self._known.popitem(last=False)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Item:
    """What a record of a benchmark asks, in one wording or several, and what it shows."""

    texts: tuple[Text, ...]
    pictures: tuple[bytes, ...]


def item_of(sample: Sample) -> Item:
    """What a sample asks and shows."""
    return Item((_text(sample),), _pictures(sample))


class Benchmarks:
    """What must not be trained on; memory does not grow with the samples looked up."""

    def __init__(
        self, items: Iterable[Item], hasher: Hasher, *, words: int, share: float, distance: int
    ) -> None:
        self._hasher, self._distance = hasher, distance
        rows: set[bytes] = set()

        def texts() -> Iterator[Text]:
            for item in items:
                hashes = map(hasher, item.pictures)
                rows.update(h.tobytes() for h in hashes if h is not None)
                yield from item.texts

        self._texts = TextIndex(texts(), words, share)
        self._pictures: Hashes = np.frombuffer(b"".join(sorted(rows)), np.uint64).reshape(-1, WORDS)

    def overlap(self, sample: Sample) -> str | None:
        """``benchmark-picture`` or ``benchmark-question``: what of a sample is theirs; or None."""
        for picture in _pictures(sample):
            one = self._hasher(picture)
            if one is not None and (distances(self._pictures, one) <= self._distance).any():
                return "benchmark-picture"
        return "benchmark-question" if self._texts.holds(_text(sample)) else None


def near_duplicates(
    samples: Iterable[Sample], hasher: Hasher, *, similarity: float, distance: int
) -> Iterator[tuple[Sample, bool]]:
    """Every sample in order, and whether an earlier one that was kept is nearly the same."""
    earlier = Earlier(hasher, similarity=similarity, distance=distance)
    return ((sample, earlier.holds(sample)) for sample in samples)


class Earlier:
    """The samples that were kept so far. Of each different question its runs of words are in memory
    (`core.minhash`), 8 bytes each, and some 350 bytes; of each picture its hash.
    """

    def __init__(self, hasher: Hasher, *, similarity: float, distance: int) -> None:
        self._hasher, self._distance = hasher, distance
        self._index = NearIndex(similarity)
        self._shelves: dict[bytes, array[int]] = {}  # of samples that ask the same: their hashes

    def holds(self, sample: Sample) -> bool:
        """Whether one of them is nearly the same; if none is, this sample is one of them now.

        A question of fewer words than a run is compared as a whole.
        """
        words = words_of(sample.question)
        members = runs_of(words, min(_RUN_WORDS, len(words))) if words else {0}
        hashes = [self._hasher(picture) for picture in _pictures(sample)]
        row = _row(hashes)
        if row is None:
            return False
        facts = _facts(sample) + len(hashes).to_bytes(4, "little")
        shelves = (self._shelves.get(_key(k, facts)) for k in self._index.near(members))
        if any(self._near(shelf, row) for shelf in shelves if shelf is not None):
            return True
        key = _key(self._index.add(members), facts)
        if not len(row):
            self._shelves[key] = _NO_PICTURES
        else:
            self._shelves.setdefault(key, array("Q")).frombytes(row.tobytes())
        return False

    def _near(self, shelf: array[int], row: Hashes) -> bool:
        """Whether some row of a shelf is near in every picture; of no pictures, it is."""
        if not len(row):
            return True
        rows = np.frombuffer(shelf, np.uint64).reshape(-1, *row.shape)
        bits = np.bitwise_count(rows ^ row).sum(axis=2, dtype=np.int64)
        return bool((bits <= self._distance).all(axis=1).any())


def _key(question: int, facts: bytes) -> bytes:
    return question.to_bytes(4, "little") + facts


def _row(hashes: Sequence[Hashes | None]) -> Hashes | None:
    """(pictures, WORDS); None where a picture has no features and so is the same as no other."""
    if any(one is None for one in hashes):
        return None
    return np.array(hashes, np.uint64).reshape(-1, WORDS)


def _pictures(sample: Sample) -> tuple[bytes, ...]:
    return (*sample.images, *(sample.video or ()))


def _text(sample: Sample) -> Text:
    return Text(
        question=sample.question,
        options=sample.options or (),
        pictured=bool(_pictures(sample)),
    )


def _facts(sample: Sample) -> bytes:
    """What must agree exactly: the numbers in order, the options in any order, the answer."""
    options = sorted(" ".join(words_of(option)) for option in sample.options or ())
    answer = sample.answer.strip().casefold()
    if sample.answer_type == "choice" and sample.options and len(answer) == 1:
        place = ord(answer) - ord("a")
        if 0 <= place < len(sample.options):
            answer = " ".join(words_of(sample.options[place]))
    parts = ("\0".join(_NUMBER.findall(sample.question)), *options, answer)
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()
