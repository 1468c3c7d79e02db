"""Wrong requests to the simulator fail with one line that says what to set."""

from __future__ import annotations

import pytest

from m2r_train.api.errors import SpecError
from m2r_train.sim import SimOptions, generate, generate_scene_questions


@pytest.mark.parametrize(
    ("task", "options", "named", "remedy"),
    [
        ("ObjectCounts", {}, "simulator.tasks", "use one of ObjectCount"),
        ("ObjectCount", {"image_size": 16}, "simulator.imageSize", "32 or more"),
        ("ObjectCount", {"min_objects": 3, "max_objects": 2}, "minObjects", "<= maxObjects"),
        ("ObjectCount", {"max_objects": 9}, "maxObjects", "<= 6"),
        ("ObjectCount", {"min_objects": 0}, "minObjects", "1 <="),
        ("RelativeDistance", {"max_objects": 2}, "simulator.maxObjects", "use 3 or more"),
        ("RelativeDepth", {"min_objects": 1, "max_objects": 1}, "maxObjects", "use 2 or more"),
        ("ObjectCount", {"style": "cubist"}, "simulator.style", "auto, solids or furniture"),
        ("ObjectCount", {"distance": "far"}, "simulator.distance", "closest or centre"),
        ("ObjectCount", {"light": 1.5}, "simulator.light", "between 0 and 1"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(task, options, named, remedy):
    with pytest.raises(SpecError) as caught:
        generate(task, 0, 0, **options)
    message = str(caught.value)
    assert named in message
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("tasks", "wanted", "named"),
    [([], 1, "simulator.tasks"), (["ObjectCount"], 0, "simulator.questionsPerScene")],
)
def test_a_scene_needs_tasks_and_questions(tasks, wanted, named):
    with pytest.raises(SpecError, match=named):
        generate_scene_questions(tasks, 0, 0, wanted)


@pytest.mark.parametrize(
    ("options", "furniture", "light"),
    [
        (SimOptions(), False, 0.8),
        (SimOptions(image_size=448), True, 0.15),
        (SimOptions(image_size=448, style="solids"), False, 0.8),
        (SimOptions(style="furniture", light=0.0), True, 0.0),
    ],
)
def test_style_follows_the_image_size_unless_it_is_said(options, furniture, light):
    assert options.furniture is furniture
    assert options.wall_light == light


@pytest.mark.parametrize("style", ["solids", "furniture"])
def test_crowded_rooms_can_still_be_drawn(style):
    sample = generate("ObjectCount", 1, 0, style=style, min_objects=6, max_objects=6)
    assert 0 <= int(sample.answer) <= 4


def test_more_questions_than_a_figure_has_gives_what_there_is():
    assert len(generate_scene_questions(["Arithmetic"], 0, 0, 5)) == 1
    assert len(generate_scene_questions(["BarChart"], 0, 0, 5)) == 3
