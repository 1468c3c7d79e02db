# ruff: noqa: E501 - tables of whole questions
"""Copies of a benchmark's pictures and near-duplicates are found; look-alikes are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from unit.model.tinies import sample

from m2r_train.core.records import Sample
from m2r_train.data.cleaning import Benchmarks, Hasher, item_of, near_duplicates
from m2r_train.data.images import decode
from m2r_train.sim import generate, generate_scene_questions

Change = Callable[[Image.Image], bytes]


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def room(index: int) -> bytes:
    (made,) = generate_scene_questions(
        ("ObjectCount",), 1, index, 1, image_size=448, min_objects=2, max_objects=6
    )
    return made.images[0]


def chart(index: int, task: str = "BarChart") -> bytes:
    return generate(task, 1, index, image_size=448).images[0]


THEIRS = [room(0), room(1), chart(0), chart(1), chart(0, "Arithmetic"), chart(1, "ShapeCount")]
CHANGES: dict[str, Change] = {
    "as it is": encoded,
    "JPEG": lambda i: encoded(i, "JPEG", quality=30),
    "WEBP": lambda i: encoded(i, "WEBP", quality=50),
    "half the size": lambda i: encoded(i.resize((224, 224))),
    "other proportions": lambda i: encoded(i.resize((333, 271), Image.Resampling.BICUBIC)),
    "trimmed by 3 pixels": lambda i: encoded(i.crop((3, 3, 445, 445))),
    "trimmed, scaled, JPEG": lambda i: encoded(
        i.crop((3, 1, 446, 444)).resize((300, 300)), "JPEG", quality=50
    ),
    "grey": lambda i: encoded(i.convert("L")),
    "brighter": lambda i: encoded(i.point(lambda v: min(255, int(v * 1.1) + 5))),
}


def asked(picture: bytes | None, question: str = "What is in the picture?", **more: Any) -> Sample:
    images = () if picture is None else (picture,)
    return sample(images=images, question=question, answer="3", answer_type="number", **more)


def benchmarks(items: list[Sample]) -> Benchmarks:
    return Benchmarks(map(item_of, items), Hasher(), words=8, share=0.6, distance=40)


@pytest.fixture(scope="module")
def theirs() -> Benchmarks:
    return benchmarks([asked(picture) for picture in THEIRS])


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_planted_copy_of_a_picture_is_found(theirs: Benchmarks, change: Change) -> None:
    for picture in THEIRS:
        copy = asked(change(decode(picture)), "Something else altogether?")
        assert theirs.overlap(copy) == "benchmark-picture"


def test_other_pictures_of_the_same_kind_are_left_alone(theirs: Benchmarks) -> None:
    for picture in [*map(room, range(2, 12)), *map(chart, range(2, 12)), chart(3, "ShapeCount")]:
        assert theirs.overlap(asked(picture)) is None


def test_blank_pictures_are_no_copies_of_each_other() -> None:
    white = encoded(Image.new("RGB", (64, 64), "white"))
    assert benchmarks([asked(white)]).overlap(asked(white)) is None


def test_a_frame_of_a_video_counts(theirs: Benchmarks) -> None:
    assert theirs.overlap(asked(None, video=(room(5), THEIRS[0]))) == "benchmark-picture"


def test_a_question_is_found_without_a_picture() -> None:
    question = "How many of the 28 marbles in the jar are neither red nor blue nor striped?"
    own = benchmarks([asked(None, question)])
    assert own.overlap(asked(None, question.replace(" ", "  "))) == "benchmark-question"
    assert own.overlap(asked(None, "How many marbles are in the jar?")) is None


LONG = (
    "A farmer has a field that is 120 m long and 80 m wide, and wants to fence it on all four "
    "sides with wire that costs 2 euros a metre; how much does the wire cost in euros in all?"
)


def again(*samples: Sample, similarity: float = 0.8) -> list[bool]:
    found = near_duplicates(samples, Hasher(), similarity=similarity, distance=40)
    return [again for _, again in found]


def test_the_first_of_near_duplicates_is_kept() -> None:
    near = LONG.replace("A farmer", "The farmer").replace("; how much", ". How much")
    assert again(asked(None, LONG), asked(None, near), asked(None, near)) == [False, True, True]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("another number", asked(None, LONG.replace("120", "130"))),
        ("numbers in another order", asked(None, LONG.replace("120", "80", 1).replace("80 m wide", "120 m wide"))),
        ("another answer", asked(None, LONG).with_(answer="4")),
        ("other options", asked(None, LONG, options=("3", "5"))),
        ("a picture more", asked(room(0), LONG)),
        ("other words", asked(None, LONG.replace("field", "garden").replace("wire", "rope").replace("euros", "dollars"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_different_question_is_no_near_duplicate(name: str, changed: Sample) -> None:
    assert again(asked(None, LONG), changed) == [False, False]


def test_pictures_and_options_decide_about_a_template() -> None:
    ours = asked(room(0), options=("1", "2", "3"))
    small = encoded(decode(room(0)).resize((224, 224)), "JPEG", quality=60)
    copy = ours.with_(images=(small,), options=("3", "1", "2"))
    assert again(ours, ours.with_(images=(room(1),)), copy) == [False, False, True]


def test_options_in_another_order_have_another_letter_for_the_same_answer() -> None:
    ours = asked(None, LONG).with_(options=("five", "six"), answer="A", answer_type="choice")
    turned = ours.with_(options=("six", "five"), answer="B")
    assert again(ours, turned) == [False, True]
    assert again(ours, turned.with_(answer="A")) == [False, False]


def test_a_template_asked_of_thousands_of_pictures_takes_no_square_of_time() -> None:
    """Minutes if every sample were compared with every other one by one."""
    noise = np.random.default_rng(0).integers(0, 255, (1000, 8, 8, 3), np.uint8)
    samples = [asked(encoded(Image.fromarray(n))) for n in noise]
    assert again(*samples, *samples[:10]) == [False] * 1000 + [True] * 10
