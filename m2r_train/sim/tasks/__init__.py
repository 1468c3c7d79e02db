"""The tasks about rooms, one file a family; one literal table says which function asks what."""

from m2r_train.sim.tasks.alignment import object_location, scene_description
from m2r_train.sim.tasks.base import Question, Stage, Task
from m2r_train.sim.tasks.count import object_count
from m2r_train.sim.tasks.depth import relative_depth
from m2r_train.sim.tasks.distance import absolute_distance, relative_distance
from m2r_train.sim.tasks.relation import relation_horizontal, relation_vertical
from m2r_train.sim.tasks.size import object_size, room_size

ROOM_TASKS: dict[str, Task] = {
    "ObjectCount": Task(object_count, solids=1, repeats=True),
    "RelationHorizontal": Task(relation_horizontal),
    "RelationVertical": Task(relation_vertical),
    "RelativeDepth": Task(relative_depth),
    "RelativeDistance": Task(relative_distance, solids=3),
    "AbsoluteDistance": Task(absolute_distance),
    "ObjectSize": Task(object_size, solids=1),
    "RoomSize": Task(room_size, solids=1),
    "SceneDescription": Task(scene_description, solids=1, repeats=True),
    "ObjectLocation": Task(object_location, solids=1),
}

ALIGNMENT_TASKS: tuple[str, ...] = ("SceneDescription", "ObjectLocation")
SPATIAL_TASKS: tuple[str, ...] = tuple(name for name in ROOM_TASKS if name not in ALIGNMENT_TASKS)

__all__ = ["ALIGNMENT_TASKS", "ROOM_TASKS", "SPATIAL_TASKS", "Question", "Stage", "Task"]
