"""What stands and hangs in an apartment: real sizes in metres, and how often, by kind of room.

Pieces are those of ``sim.catalogue``: fractions of a box whose front looks towards -z, which is the
side away from the wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from m2r_train.sim.catalogue import FURNITURE, Furniture, Piece
from m2r_train.sim.scene import Rgb

Stand = Literal["wall", "free", "hung", "beside"]

_WOOD: tuple[Rgb, ...] = ((150, 105, 65), (120, 80, 50), (185, 145, 100), (200, 170, 130))
_WHITE: tuple[Rgb, ...] = ((235, 235, 232), (222, 226, 230))
_DARK: tuple[Rgb, ...] = ((52, 52, 58), (70, 64, 60))
_CLOTH: tuple[Rgb, ...] = ((95, 115, 140), (150, 80, 75), (110, 130, 105), (190, 150, 80))


@dataclass(frozen=True, slots=True)
class Good:
    """A category: how it looks, where it stands, and the height of its underside in metres."""

    look: Furniture
    stand: Stand = "wall"
    bottom: tuple[float, float] = (0.0, 0.0)


def _legs(thick: float, height: float) -> tuple[Piece, ...]:
    x = 0.5 - thick / 2
    return tuple(
        Piece("box", sx * x, 0.0, sz * x, thick, height, thick, 0.8)
        for sx in (-1, 1)
        for sz in (-1, 1)
    )


def _block(*more: Piece) -> tuple[Piece, ...]:
    return (Piece("box", 0, 0, 0.02, 1, 1, 0.96), *more)


def _doors(tone: float, *rows: tuple[float, float]) -> tuple[Piece, ...]:
    """Fronts side by side with a gap, each row from a height over a height."""
    return tuple(
        Piece("box", x, y, -0.48, 0.46, h, 0.04, tone) for y, h in rows for x in (-0.245, 0.245)
    )


def _kind(
    width: tuple[float, float],
    height: tuple[float, float],
    depth: tuple[float, float],
    colours: tuple[Rgb, ...],
    *pieces: Piece,
) -> Furniture:
    return Furniture(width, height, depth, colours, pieces)


GOODS: dict[str, Good] = {
    "table": Good(FURNITURE["table"], "free"),
    "sofa": Good(FURNITURE["sofa"]),
    "bed": Good(FURNITURE["bed"]),
    "cabinet": Good(FURNITURE["cabinet"]),
    "chair": Good(FURNITURE["chair"], "beside"),
    "lamp": Good(FURNITURE["lamp"]),
    "plant": Good(FURNITURE["plant"]),
    "bookshelf": Good(FURNITURE["bookcase"]),
    "wardrobe": Good(
        _kind((1.2, 1.8), (1.9, 2.1), (0.55, 0.62), _WOOD, *_block(*_doors(1.08, (0.04, 0.93))))
    ),
    "nightstand": Good(
        _kind(
            (0.4, 0.5), (0.45, 0.6), (0.38, 0.45), _WOOD,
            *_block(*(Piece("box", 0, y, -0.48, 0.9, 0.36, 0.04, 1.12) for y in (0.1, 0.55))),
        )
    ),
    "desk": Good(
        _kind(
            (1.1, 1.5), (0.72, 0.76), (0.6, 0.75), _WOOD,
            Piece("box", 0, 0.94, 0, 1, 0.06, 1),
            Piece("box", -0.46, 0, 0, 0.05, 0.94, 0.9, 0.8),
            Piece("box", 0.3, 0, 0, 0.34, 0.94, 0.9, 0.88),
        )
    ),
    "armchair": Good(
        _kind(
            (0.75, 0.9), (0.8, 0.95), (0.75, 0.9), _CLOTH,
            Piece("box", 0, 0.05, -0.12, 0.64, 0.42, 0.76),
            Piece("box", 0, 0.05, 0.38, 1, 0.95, 0.24, 0.9),
            Piece("box", -0.41, 0.05, -0.12, 0.18, 0.6, 0.76, 0.82),
            Piece("box", 0.41, 0.05, -0.12, 0.18, 0.6, 0.76, 0.82),
        )
    ),
    "tv": Good(
        _kind(
            (0.95, 1.35), (0.55, 0.78), (0.05, 0.08), _DARK,
            Piece("box", 0, 0, 0.1, 1, 1, 0.8),
            Piece("box", 0, 0.03, -0.4, 0.95, 0.94, 0.2, 1.0, (24, 26, 34)),
        ),
        "hung",
        (0.95, 1.15),
    ),
    "painting": Good(
        _kind(
            (0.5, 0.9), (0.4, 0.7), (0.03, 0.04), ((90, 60, 40), (40, 40, 44)),
            Piece("box", 0, 0, 0.1, 1, 1, 0.8),
            Piece("box", 0, 0.42, -0.4, 0.84, 0.49, 0.2, 1.0, (150, 185, 205)),
            Piece("box", 0, 0.09, -0.4, 0.84, 0.33, 0.2, 1.0, (120, 140, 70)),
            Piece("box", 0.15, 0.3, -0.49, 0.2, 0.3, 0.02, 1.0, (190, 90, 60)),
        ),
        "hung",
        (1.35, 1.5),
    ),
    "clock": Good(
        _kind(
            (0.32, 0.4), (0.32, 0.4), (0.04, 0.05), _DARK,
            Piece("box", 0, 0, 0.1, 1, 1, 0.8),
            Piece("box", 0, 0.12, -0.4, 0.76, 0.76, 0.2, 1.0, (246, 244, 236)),
        ),
        "hung",
        (1.75, 1.9),
    ),
    "mirror": Good(
        _kind(
            (0.5, 0.7), (0.8, 1.0), (0.03, 0.04), _WOOD,
            Piece("box", 0, 0, 0.1, 1, 1, 0.8),
            Piece("box", 0, 0.05, -0.4, 0.9, 0.9, 0.2, 1.0, (198, 216, 224)),
        ),
        "hung",
        (1.0, 1.15),
    ),
    "refrigerator": Good(
        _kind(
            (0.6, 0.72), (1.65, 1.9), (0.62, 0.7), _WHITE,
            *_block(
                Piece("box", 0, 0.02, -0.48, 0.98, 0.6, 0.04, 1.04),
                Piece("box", 0, 0.64, -0.48, 0.98, 0.34, 0.04, 1.04),
                Piece("box", -0.4, 0.3, -0.5, 0.04, 0.28, 0.03, 0.55),
            ),
        )
    ),
    "stove": Good(
        _kind(
            (0.58, 0.62), (0.86, 0.92), (0.58, 0.64), _WHITE,
            *_block(
                Piece("box", 0, 0.16, -0.48, 0.86, 0.5, 0.04, 1.0, (40, 42, 46)),
                Piece("box", 0, 0.72, -0.49, 0.8, 0.05, 0.04, 0.7),
                Piece("box", 0, 0.98, 0, 0.9, 0.02, 0.86, 1.0, (48, 48, 52)),
            ),
        )
    ),
    "washing machine": Good(
        _kind(
            (0.58, 0.62), (0.83, 0.88), (0.55, 0.62), _WHITE,
            *_block(
                Piece("box", 0, 0.25, -0.48, 0.56, 0.5, 0.04, 1.0, (120, 130, 140)),
                Piece("box", 0, 0.88, -0.48, 0.94, 0.08, 0.04, 0.85),
            ),
        )
    ),
    "sink": Good(
        _kind(
            (0.5, 0.65), (0.82, 0.88), (0.42, 0.5), _WHITE,
            Piece("box", 0, 0, 0.1, 0.4, 0.78, 0.5, 0.9),
            Piece("box", 0, 0.78, 0, 1, 0.18, 1),
            Piece("box", 0, 0.96, -0.05, 0.8, 0.005, 0.7, 0.8),
            Piece("box", 0, 0.965, 0.4, 0.08, 0.035, 0.1, 0.6),
        )
    ),
    "toilet": Good(
        _kind(
            (0.36, 0.4), (0.76, 0.82), (0.64, 0.7), _WHITE,
            Piece("box", 0, 0, -0.1, 0.6, 0.44, 0.6, 0.92),
            Piece("box", 0, 0.44, -0.16, 0.94, 0.09, 0.66, 1.05),
            Piece("box", 0, 0.3, 0.36, 1, 0.7, 0.26),
        )
    ),
    "bathtub": Good(
        _kind(
            (1.5, 1.7), (0.54, 0.6), (0.7, 0.75), _WHITE,
            Piece("box", 0, 0, 0, 1, 0.985, 1),
            Piece("box", 0, 0.985, 0, 0.9, 0.015, 0.8, 0.78),
        )
    ),
    "trash bin": Good(
        _kind(
            (0.26, 0.32), (0.4, 0.6), (0.26, 0.32), _DARK,
            Piece("cylinder", 0, 0, 0, 0.9, 0.9, 0.9),
            Piece("cylinder", 0, 0.9, 0, 1, 0.1, 1, 1.3),
        )
    ),
    "stool": Good(
        _kind(
            (0.34, 0.4), (0.44, 0.5), (0.34, 0.4), _WOOD,
            Piece("cylinder", 0, 0.9, 0, 1, 0.1, 1), *_legs(0.12, 0.9),
        ),
        "free",
    ),
    "piano": Good(
        _kind(
            (1.4, 1.5), (1.15, 1.25), (0.55, 0.62), _DARK,
            Piece("box", 0, 0, 0.2, 1, 1, 0.6),
            Piece("box", 0, 0.5, -0.3, 0.98, 0.08, 0.4, 1.1),
            Piece("box", 0, 0.58, -0.33, 0.92, 0.02, 0.28, 1.0, (245, 245, 240)),
            Piece("box", -0.46, 0, -0.35, 0.06, 0.5, 0.2),
            Piece("box", 0.46, 0, -0.35, 0.06, 0.5, 0.2),
        )
    ),
    "radiator": Good(
        _kind((0.7, 1.1), (0.5, 0.6), (0.08, 0.1), _WHITE, *_block()), "hung", (0.12, 0.15)
    ),
    "backpack": Good(
        _kind(
            (0.3, 0.36), (0.42, 0.5), (0.2, 0.26), ((60, 90, 150), (170, 60, 60), (60, 120, 90)),
            Piece("box", 0, 0, 0.1, 1, 1, 0.8), Piece("box", 0, 0.08, -0.4, 0.76, 0.46, 0.2, 0.8),
        )
    ),
}  # fmt: skip

# (category, fewest, most); what comes first finds a place first, what finds none is left out.
ROOMS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "living room": (
        ("sofa", 1, 2), ("table", 0, 1), ("bookshelf", 0, 2), ("tv", 0, 1), ("piano", 0, 1),
        ("armchair", 0, 2), ("cabinet", 0, 1), ("painting", 1, 3), ("lamp", 0, 2), ("plant", 1, 2),
        ("chair", 0, 2), ("clock", 0, 1), ("backpack", 0, 1), ("radiator", 0, 1),
    ),
    "bedroom": (
        ("bed", 1, 1), ("wardrobe", 0, 1), ("nightstand", 1, 2), ("desk", 0, 1), ("chair", 0, 2),
        ("mirror", 0, 1), ("painting", 0, 2), ("lamp", 0, 1), ("plant", 0, 1), ("radiator", 0, 1),
        ("backpack", 0, 1), ("stool", 0, 2),
    ),
    "kitchen": (
        ("refrigerator", 1, 1), ("table", 1, 1), ("chair", 2, 4), ("stove", 1, 1), ("sink", 0, 1),
        ("cabinet", 0, 2), ("washing machine", 0, 1), ("trash bin", 1, 1), ("clock", 0, 1),
        ("stool", 0, 2), ("plant", 0, 1),
    ),
    "bathroom": (
        ("bathtub", 0, 1), ("toilet", 1, 1), ("sink", 1, 1), ("washing machine", 0, 1),
        ("mirror", 0, 1), ("trash bin", 0, 1), ("radiator", 0, 1), ("stool", 0, 1),
    ),
}  # fmt: skip
