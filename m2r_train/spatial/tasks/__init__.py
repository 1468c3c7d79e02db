"""One literal table says which function asks what."""

from m2r_train.spatial.tasks.appearance import appearance_order
from m2r_train.spatial.tasks.base import Ask, Question
from m2r_train.spatial.tasks.direction import direction_easy, direction_hard, direction_medium
from m2r_train.spatial.tasks.distance import absolute_distance, relative_distance
from m2r_train.spatial.tasks.picture import count, depth, distance, relation
from m2r_train.spatial.tasks.room import object_count, object_size, room_size
from m2r_train.spatial.tasks.route import route_plan

VIDEO_TASKS: dict[str, Ask] = {
    "ObjectCount": object_count,
    "ObjectSize": object_size,
    "RoomSize": room_size,
    "AbsoluteDistance": absolute_distance,
    "RelativeDistance": relative_distance,
    "RelativeDirectionEasy": direction_easy,
    "RelativeDirectionMedium": direction_medium,
    "RelativeDirectionHard": direction_hard,
    "AppearanceOrder": appearance_order,
    "RoutePlan": route_plan,
}
IMAGE_TASKS: dict[str, Ask] = {
    "Count": count,
    "Relation": relation,
    "Depth": depth,
    "Distance": distance,
}

__all__ = ["IMAGE_TASKS", "VIDEO_TASKS", "Ask", "Question"]
