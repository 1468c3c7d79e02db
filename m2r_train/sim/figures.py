"""Pictures that are not rooms: a sum, a bar chart, a page of shapes. Domain "general", exact match.

A figure is drawn first and then asked about, so several questions can share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from m2r_train.core.records import AnswerType
from m2r_train.sim.catalogue import COLOURS
from m2r_train.sim.font import GLYPH_HEIGHT, draw_text, text_width
from m2r_train.sim.tasks.base import Question
from m2r_train.sim.teacher import concluded

Picture = npt.NDArray[np.uint8]

_PAPERS = ((250, 248, 240), (238, 242, 250), (244, 250, 240))
_INKS = ((25, 25, 35), (20, 45, 110), (110, 30, 35))

OPERATORS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "+": ("plus", lambda a, b: a + b),
    "-": ("minus", lambda a, b: a - b),
    "x": ("times", lambda a, b: a * b),
}
KINDS = ("circle", "square", "triangle")
BAR_HEIGHTS = tuple(range(1, 10))
MOST_SHAPES = 6
_CELLS = 3  # shapes stand in a 3 x 3 grid


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawn picture (S, S, 3) and the questions that can be asked about it, the first first."""

    image: Picture
    questions: tuple[Question, ...]


def arithmetic(rng: Random, size: int) -> Figure:
    """Two numbers 0..9 and an operator; the answer is never negative."""
    sign = rng.choice(tuple(OPERATORS))
    one, two = rng.randint(0, 9), rng.randint(0, 9)
    if sign == "-" and one < two:
        one, two = two, one
    word, operate = OPERATORS[sign]
    answer = str(operate(one, two))
    image = _paper(rng, size)
    text = f"{one}{sign}{two}"
    scale = size // (6 * len(text) + 2)
    left = rng.randint(scale, size - scale - text_width(text, scale))
    top = rng.randint(size // 4, 3 * size // 4 - GLYPH_HEIGHT * scale)
    draw_text(image, text, (top, left), scale=scale, colour=rng.choice(_INKS))
    thought = concluded(f"{one} {word} {two}", answer)
    question = _question("Arithmetic", "What is the result?", answer, "number", thought)
    return Figure(image, (question,))


def bar_chart(rng: Random, size: int) -> Figure:
    """Three or four coloured bars of different heights 1..9."""
    names = rng.sample(tuple(COLOURS), rng.randint(3, 4))
    heights = dict(zip(names, rng.sample(BAR_HEIGHTS, len(names)), strict=True))
    image = _paper(rng, size)
    margin = max(2, size // 16)
    unit = (size - 2 * margin) / (len(BAR_HEIGHTS) + 1)
    slot = (size - 2 * margin) / len(names)
    floor = size - margin
    for level in range(0, len(BAR_HEIGHTS) + 1, 3):
        image[round(floor - level * unit), margin : size - margin] = (200, 200, 200)
    for place, (name, height) in enumerate(heights.items()):
        left = round(margin + slot * (place + 0.15))
        right = round(margin + slot * (place + 0.85))
        image[round(floor - height * unit) : floor, left:right] = COLOURS[name]
    image[floor : floor + max(1, size // 64), margin : size - margin] = (40, 40, 40)
    listed = " ".join(f"{name} {height}" for name, height in heights.items())
    questions = []
    for word, best in (("tallest", max), ("shortest", min)):
        answer = best(heights, key=lambda name: heights[name])
        text = f"Which color is the {word} bar?"
        thought = concluded(listed, answer)
        questions.append(_question("BarChart", text, answer, "text", thought))
    base = rng.choice(names)
    higher = str(sum(height > heights[base] for height in heights.values()))
    text = f"How many bars are taller than the {base} bar?"
    questions.append(_question("BarChart", text, higher, "number", concluded(listed, higher)))
    rng.shuffle(questions)
    return Figure(image, tuple(questions))


def shape_count(rng: Random, size: int) -> Figure:
    """One to six circles, squares and triangles in the cells of a grid, one in a cell."""
    count = rng.randint(1, MOST_SHAPES)
    cells = sorted(rng.sample(range(_CELLS * _CELLS), count))
    colour_pool, kind_pool = rng.sample(tuple(COLOURS), 2), rng.sample(KINDS, 2)
    shapes = [(rng.choice(colour_pool), rng.choice(kind_pool)) for _ in cells]
    image = _paper(rng, size)
    for cell, (colour, kind) in zip(cells, shapes, strict=True):
        _draw_shape(image, rng, cell, kind, COLOURS[colour])
    colour, kind = rng.choice(colour_pool), rng.choice(kind_pool)
    asked = [
        (f"{colour} {kind}s", [s for s in shapes if s == (colour, kind)]),
        (f"{kind}s", [s for s in shapes if s[1] == kind]),
        (f"{colour} shapes", [s for s in shapes if s[0] == colour]),
        ("shapes", shapes),
    ]
    questions = []
    for words, found in asked:
        answer = str(len(found))
        listed = " ".join(f"{colour} {kind}" for colour, kind in found) or "none"
        text = f"How many {words} are there?"
        thought = concluded(listed, answer)
        questions.append(_question("ShapeCount", text, answer, "number", thought))
    rng.shuffle(questions)
    return Figure(image, tuple(questions))


FIGURES: dict[str, Callable[[Random, int], Figure]] = {
    "Arithmetic": arithmetic,
    "BarChart": bar_chart,
    "ShapeCount": shape_count,
}
GENERAL_TASKS: tuple[str, ...] = tuple(FIGURES)


def _paper(rng: Random, size: int) -> Picture:
    image = np.empty((size, size, 3), dtype=np.uint8)
    image[:] = rng.choice(_PAPERS)
    return image


def _question(task: str, text: str, answer: str, answer_type: AnswerType, thought: str) -> Question:
    return Question(
        task=task,
        text=text,
        answer=answer,
        answer_type=answer_type,
        reward="exact",
        thought=thought,
    )


def _draw_shape(
    image: Picture, rng: Random, cell: int, kind: str, colour: tuple[int, int, int]
) -> None:
    """A shape of .6 to .8 of its cell, shaken a little within it."""
    side = image.shape[0] / _CELLS
    radius = side * rng.uniform(0.3, 0.4)
    slack = side / 2 - radius - 0.5
    row = (cell // _CELLS + 0.5) * side + rng.uniform(-slack, slack)
    column = (cell % _CELLS + 0.5) * side + rng.uniform(-slack, slack)
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    down, across = y + 0.5 - row, np.abs(x + 0.5 - column)
    if kind == "circle":
        inside = down**2 + across**2 <= radius**2
    elif kind == "square":
        inside = (np.abs(down) <= 0.85 * radius) & (across <= 0.85 * radius)
    else:
        inside = (np.abs(down) <= radius) & (2 * across <= down + radius)
    image[inside] = colour
