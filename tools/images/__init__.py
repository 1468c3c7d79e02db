"""Images without a Docker engine or a registry: ``buildah`` on a ``debootstrap`` base.

    from images import build
    image = build("trainer-cpu")   # or "operator", "standin"; an `Image`
    image.archive                  # a docker-archive (Path), for `ctr -n k8s.io images import`
    image.reference                # docker.io/library/m2r-train:0.1.0-cpu
    image.short                    # m2r-train:0.1.0-cpu, what a pod's `image:` says
    image.digest                   # sha256:..., of the image's configuration (its ID)

``python tools/images build NAME ... [--out DIR]`` is the same by hand. A second call with the same
inputs returns at once; where only the source changed, only the last two layers are made again.
Pods that use such an image need ``imagePullPolicy: Never`` or ``IfNotPresent``.
"""

from images.building import Image, build
from images.machine import ImageError
from images.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Image", "ImageError", "Recipe", "build"]
