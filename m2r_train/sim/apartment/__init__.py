"""Apartments of several rooms, walks through them, and what a walk or a picture shows.

goods       what rooms are furnished with; layout: rooms, doors and where things stand
walk        where the camera goes
solids      an apartment as polygons; painter: polygons to pictures, in order of depth
making      scenes with their pictures, and samples, out of seeds
"""

from m2r_train.sim.apartment.making import image_samples, video_samples

__all__ = ["image_samples", "video_samples"]
