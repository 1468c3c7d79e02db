"""Scene to picture by casting one ray through every pixel; also who is where, and how far.

Visibility is measured, not assumed: the same rays give the id map, the depth map and, per
solid, the pixels that it would cover alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from m2r_train.sim.backdrop import backdrop, cast_shadow, crop, falloff, ray_slopes
from m2r_train.sim.camera import footprint
from m2r_train.sim.catalogue import parts
from m2r_train.sim.rays import Array, hit
from m2r_train.sim.scene import Scene

BACKGROUND = -1
_AMBIENT, _DIRECT = 0.5, 0.62

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """A rendered scene.

    ``image`` (S, S, 3) uint8; ``ids`` (S, S) int16: index of the solid, -1 for the room;
    ``depth`` (S, S) metres along the camera's axis; ``alone`` and ``visible``: pixels per solid
    without and with the others in front.
    """

    image: Picture
    ids: npt.NDArray[np.int16]
    depth: Array
    alone: tuple[int, ...]
    visible: tuple[int, ...]

    def hidden(self, index: int) -> float:
        """Share of a solid's pixels that others cover, 0..1 (1 if it covers no pixel at all)."""
        if not self.alone[index]:
            return 1.0
        return 1.0 - self.visible[index] / self.alone[index]


def render(scene: Scene, light: float = 1.0) -> View:
    """The picture of a scene; ``light`` 0..1 is the strength of the coloured wall light."""
    camera, room = scene.camera, scene.room
    dx, dy = ray_slopes(camera.size)
    eye = (camera.x, camera.height, 0.0)
    colour, depth = backdrop(room, eye, dx, dy, light)
    if room.lived_in:
        for solid in scene.solids:
            cast_shadow(colour, depth, camera, solid)
    ids = np.full(depth.shape, BACKGROUND, dtype=np.int16)
    alone = []
    for index, solid in enumerate(scene.solids):
        own = np.zeros(depth.shape, dtype=bool)
        for part in parts(solid):
            corners = footprint(part.shape, part.x, part.z, part.size, part.yaw)
            where = crop(camera, corners, part.y, part.y + part.size[1])
            near, lit = hit(part, eye, dx[where[1]], dy[where[0]])
            own[where] |= np.isfinite(near)
            front = near < depth[where]
            shown = near[front]
            depth[where][front] = shown
            ids[where][front] = index
            shade = (_AMBIENT + _DIRECT * lit[front]) * falloff(shown, room)
            colour[where][front] = np.outer(shade, part.colour)
        alone.append(int(np.count_nonzero(own)))
    counts = np.bincount(ids.ravel() + 1, minlength=len(scene.solids) + 1)
    np.minimum(colour, 255.0, out=colour)
    image = colour.astype(np.uint8)
    return View(image, ids, depth, tuple(alone), tuple(int(n) for n in counts[1:]))


def photograph(scene: Scene, light: float = 1.0) -> View:
    """As ``render``, with smooth edges where legs and seams are thin: lived-in rooms are cast at
    twice the size and averaged down. Ids, depth and counts stay at the size that was cast."""
    if not scene.room.lived_in:
        return render(scene, light)
    size = scene.camera.size
    view = render(replace(scene, camera=replace(scene.camera, size=2 * size)), light)
    fine = view.image.astype(np.uint16)
    fine = fine[0::2] + fine[1::2]
    quads = fine[:, 0::2] + fine[:, 1::2]
    return replace(view, image=(quads // 4).astype(np.uint8))


def png(image: Picture) -> bytes:
    """A picture (H, W, 3) as PNG bytes, compressed lightly: speed counts more than size."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
