"""What can stand in a room: coloured solids for small pictures, furniture for large ones.

Furniture is data: a range of sizes, colours, and the pieces it is built of, as fractions of its
oriented box. Its front looks towards -z (the camera) before it is turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from m2r_train.sim.scene import Rgb, Shape, Solid

COLOURS: dict[str, Rgb] = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 240),
    "yellow": (245, 215, 40),
}
SOLID_SHAPES: tuple[Shape, ...] = ("box", "ball", "cone")
SOLID_WIDTH = (0.5, 0.8)
SOLID_HEIGHT = (0.4, 1.2)

_WOOD: tuple[Rgb, ...] = ((150, 105, 65), (120, 80, 50), (185, 145, 100))
_CLOTH: tuple[Rgb, ...] = ((95, 115, 140), (150, 80, 75), (110, 130, 105), (165, 150, 130))
_PAINT: tuple[Rgb, ...] = ((225, 225, 220), (110, 135, 150), (140, 105, 80))


@dataclass(frozen=True, slots=True)
class Part:
    """One primitive to draw: bottom centre (x, y, z) and size (w, h, d) in metres."""

    shape: Shape
    colour: Rgb
    x: float
    y: float
    z: float
    size: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A primitive as fractions of a box: centre (x, z) in -0.5..0.5, bottom y in 0..1."""

    shape: Shape
    x: float
    y: float
    z: float
    w: float
    h: float
    d: float
    tone: float = 1.0
    colour: Rgb | None = None


@dataclass(frozen=True, slots=True)
class Furniture:
    """Ranges in metres of width, height and depth; colours to choose from; pieces."""

    width: tuple[float, float]
    height: tuple[float, float]
    depth: tuple[float, float]
    colours: tuple[Rgb, ...]
    pieces: tuple[Piece, ...]


def _legs(thick_w: float, thick_d: float, height: float) -> tuple[Piece, ...]:
    x, z = 0.5 - thick_w / 2, 0.5 - thick_d / 2
    return tuple(
        Piece("box", sx * x, 0.0, sz * z, thick_w, height, thick_d, 0.8)
        for sx in (-1, 1)
        for sz in (-1, 1)
    )


def _shelves(*heights: float) -> tuple[Piece, ...]:
    return tuple(Piece("box", 0.0, y, -0.03, 0.92, 0.03, 0.94, 1.1) for y in heights)


FURNITURE: dict[str, Furniture] = {
    "table": Furniture(
        (1.0, 1.6), (0.7, 0.78), (0.7, 0.9), _WOOD,
        (Piece("box", 0, 0.93, 0, 1, 0.07, 1), *_legs(0.06, 0.1, 0.93)),
    ),
    "sofa": Furniture(
        (1.6, 2.2), (0.75, 0.9), (0.8, 0.95), _CLOTH,
        (
            Piece("box", 0, 0.08, -0.08, 0.8, 0.42, 0.84),
            Piece("box", 0, 0.08, 0.38, 1, 0.92, 0.24, 0.9),
            Piece("box", -0.45, 0.08, -0.06, 0.1, 0.62, 0.88, 0.82),
            Piece("box", 0.45, 0.08, -0.06, 0.1, 0.62, 0.88, 0.82),
            *_legs(0.05, 0.1, 0.08),
        ),
    ),
    "bed": Furniture(
        (1.0, 1.6), (0.85, 1.0), (1.9, 2.1), _WOOD,
        (
            Piece("box", 0, 0.1, 0, 1, 0.2, 1, 0.8),
            Piece("box", 0, 0.3, -0.02, 0.96, 0.22, 0.94, 1.0, (215, 220, 230)),
            Piece("box", 0, 0.5, 0.34, 0.7, 0.09, 0.16, 1.0, (245, 245, 245)),
            Piece("box", 0, 0.1, 0.48, 1, 0.9, 0.04),
            *_legs(0.08, 0.05, 0.1),
        ),
    ),
    "cabinet": Furniture(
        (0.8, 1.2), (0.85, 1.3), (0.4, 0.5), _PAINT,
        (
            Piece("box", 0, 0.06, 0.02, 1, 0.94, 0.96),
            Piece("box", 0, 0.0, 0.04, 0.94, 0.06, 0.9, 0.55),
            Piece("box", -0.25, 0.1, -0.48, 0.46, 0.84, 0.04, 1.08),
            Piece("box", 0.25, 0.1, -0.48, 0.46, 0.84, 0.04, 1.08),
        ),
    ),
    "chair": Furniture(
        (0.42, 0.5), (0.85, 1.0), (0.42, 0.5), _WOOD,
        (
            Piece("box", 0, 0.46, 0, 1, 0.06, 1),
            Piece("box", 0, 0.66, 0.46, 1, 0.34, 0.08, 0.92),
            Piece("box", -0.45, 0.5, 0.46, 0.1, 0.18, 0.08, 0.85),
            Piece("box", 0.45, 0.5, 0.46, 0.1, 0.18, 0.08, 0.85),
            *_legs(0.1, 0.1, 0.46),
        ),
    ),
    "lamp": Furniture(
        (0.42, 0.55), (1.3, 1.6), (0.42, 0.55), ((235, 215, 160), (220, 190, 170)),
        (
            Piece("cylinder", 0, 0, 0, 0.7, 0.025, 0.7, 1.0, (70, 70, 75)),
            Piece("cylinder", 0, 0.02, 0, 0.09, 0.78, 0.09, 1.0, (70, 70, 75)),
            Piece("cylinder", 0, 0.76, 0, 1, 0.24, 1, 1.15),
        ),
    ),
    "plant": Furniture(
        (0.5, 0.7), (0.8, 1.2), (0.5, 0.7), ((70, 130, 70), (85, 145, 60)),
        (
            Piece("cylinder", 0, 0, 0, 0.55, 0.36, 0.55, 1.0, (175, 105, 75)),
            Piece("cylinder", 0, 0.36, 0, 0.08, 0.2, 0.08, 1.0, (95, 70, 50)),
            Piece("cone", 0, 0.44, 0, 1, 0.56, 1),
        ),
    ),
    "bookcase": Furniture(
        (0.7, 1.0), (1.4, 1.8), (0.3, 0.36), _WOOD,
        (
            Piece("box", 0, 0, 0.46, 1, 1, 0.08, 0.6),
            Piece("box", -0.48, 0, 0, 0.04, 1, 1),
            Piece("box", 0.48, 0, 0, 0.04, 1, 1),
            Piece("box", 0, 0.97, 0, 1, 0.03, 1),
            *_shelves(0.02, 0.26, 0.5, 0.74),
            Piece("box", -0.2, 0.29, 0.1, 0.42, 0.17, 0.6, 1.0, (160, 70, 65)),
            Piece("box", 0.22, 0.53, 0.1, 0.36, 0.16, 0.6, 1.0, (70, 100, 140)),
            Piece("box", -0.15, 0.77, 0.1, 0.5, 0.15, 0.6, 1.0, (195, 165, 85)),
            Piece("box", 0.1, 0.05, 0.1, 0.6, 0.17, 0.6, 1.0, (90, 125, 95)),
        ),
    ),
}  # fmt: skip


def parts(solid: Solid) -> tuple[Part, ...]:
    """The primitives that draw a solid: itself, or the pieces of a piece of furniture."""
    furniture = FURNITURE.get(solid.name)
    if furniture is None:
        return (Part(solid.shape, solid.colour, solid.x, 0.0, solid.z, solid.size, solid.yaw),)
    width, height, depth = solid.size
    cos, sin = math.cos(solid.yaw), math.sin(solid.yaw)
    return tuple(
        Part(
            piece.shape,
            _toned(piece.colour or solid.colour, piece.tone),
            solid.x + cos * piece.x * width + sin * piece.z * depth,
            piece.y * height,
            solid.z - sin * piece.x * width + cos * piece.z * depth,
            (piece.w * width, piece.h * height, piece.d * depth),
            solid.yaw,
        )
        for piece in furniture.pieces
    )


def _toned(colour: Rgb, tone: float) -> Rgb:
    red, green, blue = (min(255, round(channel * tone)) for channel in colour)
    return red, green, blue
