"""The simulator: rooms and figures with questions whose answers are true by construction.

scene, camera, geometry   what there is, in metres, and what is true of it
rays, render              pictures, and who is visible in them
catalogue, placement      what rooms are furnished with, and where
tasks, figures, teacher   questions, answers, chains of reasoning
samples                   questions with their pictures, out of seeds
"""

from m2r_train.sim.figures import GENERAL_TASKS
from m2r_train.sim.options import SimOptions
from m2r_train.sim.samples import TASKS, generate, generate_scene_questions
from m2r_train.sim.tasks import ALIGNMENT_TASKS, SPATIAL_TASKS
from m2r_train.sim.vocabulary import TAGS, VOCABULARY

__all__ = [
    "ALIGNMENT_TASKS",
    "GENERAL_TASKS",
    "SPATIAL_TASKS",
    "TAGS",
    "TASKS",
    "VOCABULARY",
    "SimOptions",
    "generate",
    "generate_scene_questions",
]
