"""Scenes of boxes, cameras and room outlines, and the questions that can be asked about them.

scene       what there is, simulated or annotated; geometry: what is true of it
margins     below which a question is ambiguous and is not asked
tasks       fourteen kinds of questions, each a pure function of (scene, random)
asking      questions about one scene as samples
"""

from m2r_train.spatial.asking import TASKS, questions, to_sample
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Box, Door, Frame, Scene, Sight
from m2r_train.spatial.tasks import IMAGE_TASKS, VIDEO_TASKS

__all__ = [
    "IMAGE_TASKS",
    "TASKS",
    "VIDEO_TASKS",
    "Box",
    "Door",
    "Frame",
    "Margins",
    "Scene",
    "Sight",
    "questions",
    "to_sample",
]
