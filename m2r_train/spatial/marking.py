"""Pictures as files, and boxes drawn onto them for questions that speak of such boxes."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from m2r_train.spatial.scene import Scene
from m2r_train.spatial.tasks.base import Mark

COLOURS = {"red": (255, 0, 0), "blue": (0, 60, 255), "green": (0, 200, 0)}


_JPEG_QUALITY = 90


def jpeg(picture: Image.Image) -> bytes:
    """A picture (RGB or RGBX) as JPEG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def marked(picture: Image.Image, scene: Scene, marks: tuple[Mark, ...]) -> Image.Image:
    """A copy of the picture of the scene's first frame with a coloured box around each thing."""
    out = picture.copy()
    draw = ImageDraw.Draw(out)
    width = max(2, picture.width // 140)
    for index, colour in marks:
        rectangle = scene.frames[0].sights[index].rectangle
        assert rectangle is not None
        left, top, right, bottom = rectangle
        draw.rectangle((left, top, right - 1, bottom - 1), outline=COLOURS[colour], width=width)
    return out
