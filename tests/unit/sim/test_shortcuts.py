"""What the simulator does for speed gives what the plain way gives."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.sim.apartment import making
from m2r_train.sim.apartment.goods import GOODS
from m2r_train.sim.apartment.orders import Prism, order_of
from m2r_train.sim.apartment.shapes import _rim, shape_of
from m2r_train.sim.catalogue import Piece
from m2r_train.spatial.geometry import near_segment, segment_polygon
from m2r_train.spatial.scene import Box

metres = st.floats(-3, 3)


@given(
    st.tuples(metres, metres),
    st.tuples(metres, metres),
    st.tuples(metres, metres, st.floats(0.1, 2), st.floats(0.1, 2), st.floats(-4, 4)),
    st.floats(0.01, 1),
)
def test_a_box_near_a_segment_is_one_whose_outline_is(
    a: tuple[float, float],
    b: tuple[float, float],
    box: tuple[float, float, float, float, float],
    gap: float,
) -> None:
    x, y, width, depth, yaw = box
    one = Box(category="sofa", centre=(x, y, 0.5), size=(width, depth, 1.0), yaw=yaw)
    assert near_segment(a, b, one, gap) == (segment_polygon(a, b, one.footprint) < gap)


def placed(piece: Piece, box: Box) -> Prism:
    """A piece of a thing where it stands."""
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    width, depth, height = box.size
    x, y, z = box.centre
    rim = [(a * width, b * depth) for a, b in _rim(piece)]
    bottom = z - height / 2 + piece.y * height
    return Prism(
        tuple((x + cos * a - sin * b, y + sin * a + cos * b) for a, b in rim),
        bottom,
        bottom + piece.h * height,
    )


@pytest.mark.parametrize("category", sorted(GOODS))
def test_pieces_are_painted_in_the_order_of_their_shape(category: str) -> None:
    random = Random(category)
    for _ in range(20):
        size = (random.uniform(0.3, 2), random.uniform(0.3, 2), random.uniform(0.3, 2))
        box = Box(
            category=category,
            centre=(random.uniform(-2, 2), random.uniform(-2, 2), random.uniform(0.2, 1.5)),
            size=size,
            yaw=random.uniform(-math.pi, math.pi),
        )
        world = order_of([placed(piece, box) for piece in GOODS[category].look.pieces])
        assert np.array_equal(world.beyond, shape_of(category).order.beyond)


def test_questions_without_marks_share_one_file_and_no_other_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    plain = making.jpeg
    monkeypatch.setattr(making, "jpeg", lambda shown: [made.append(1), plain(shown)][1])
    samples = making.image_samples(["Count", "Depth"], 0, 0, 4, image_size=64)
    assert len(made) == len({s.images for s in samples})
