"""The closed vocabulary: what a word-level tokenizer needs to know of the simulator's language.

A word is a run of letters or one sign, after the tags of the output contract are set apart;
numbers are written digit by digit ("-2.5" is "-", 2, ".", 5).
"""

from __future__ import annotations

import re

from m2r_train.sim.catalogue import COLOURS, FURNITURE, SOLID_SHAPES
from m2r_train.sim.figures import KINDS, OPERATORS

TAGS: tuple[str, ...] = ("<think>", "</think>", "<answer>", "\\boxed{", "}", "</answer>")

_SENTENCES = """
How many objects are in this room?
Is the to the left or right of the? Is the above or below the in the image?
Which is closer to the camera, the or the?
How many meters are between the closest points of the and the?
How many meters are between the centers of the and the?
How many meters is the longest side of the? How many meters high is the?
How many square meters is the floor of this room?
Describe the objects from left to right. Where is the?
What is the result?
Which color is the tallest bar? Which color is the shortest bar?
How many bars are taller than the bar? How many shapes are there?
no none so at row x z to width depth -
"""

_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


def words(text: str) -> list[str]:
    """The words of a question, an answer or a chain, tags and digits left out."""
    return re.findall(r"[^\W\d_]+|[^\w\s]", _TAG.sub(" ", text))


VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *words(_SENTENCES),
            *COLOURS,
            *SOLID_SHAPES,
            *FURNITURE,
            *(f"{name}s" for name in FURNITURE),
            *KINDS,
            *(f"{kind}s" for kind in KINDS),
            *(word for word, _ in OPERATORS.values()),
        ]
    )
)
