"""Samples out of seeds: ``generate`` for one question, ``generate_scene_questions`` for several
about the same picture. Both are pure functions: the same arguments give the same bytes, in any
process and in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypedDict, Unpack

from m2r_train.api.errors import SpecError
from m2r_train.core.records import Domain, Sample
from m2r_train.core.rng import derive_seed
from m2r_train.sim.figures import FIGURES
from m2r_train.sim.options import Distance, SimOptions, Style
from m2r_train.sim.placement import draw_scene, palette
from m2r_train.sim.render import View, photograph, png
from m2r_train.sim.tasks import ROOM_TASKS, Question, Stage
from m2r_train.sim.teacher import chain

TASKS: tuple[str, ...] = (*ROOM_TASKS, *FIGURES)

MIN_VISIBLE_PIXELS = 14  # of a solid asked about, in a picture of 64 x 64
MAX_HIDDEN_SHARE = 0.15  # of its pixels that others may cover
MOST_COUNTED = 4
SOURCE = "simulator"
_TRIES = 400
_TRIES_PER_PLAN = 40
_TRIES_PER_QUESTION = 6  # another pair may be clear where the first was ambiguous


class Options(TypedDict, total=False):
    """The fields of SimOptions, as keywords."""

    image_size: int
    min_objects: int
    max_objects: int
    style: Style
    distance: Distance
    light: float | None


def generate(task: str, seed: int, index: int, **options: Unpack[Options]) -> Sample:
    """The sample number ``index`` of a task.

    One PNG image of ``image_size`` squared, a question of a closed vocabulary, its only answer, and
    the template teacher's chain. Raises SpecError for an unknown task or a wrong option.
    """
    settings = _settings((task,), options)
    rng_seed = derive_seed(seed, "sim", task, index)
    image, questions = _ask((task,), rng_seed, 1, settings)
    return _sample(questions[0], image, f"{task}-{seed}-{index}")


def generate_scene_questions(
    tasks: Sequence[str],
    seed: int,
    index: int,
    questions_per_scene: int,
    **options: Unpack[Options],
) -> tuple[Sample, ...]:
    """Up to ``questions_per_scene`` different questions about picture number ``index``.

    The first question's task goes round ``tasks``, so that each leads equally often; further
    ones are of the tasks that the same picture can serve. There are fewer only where the picture
    has no more to ask (a sum has one question). Raises SpecError as ``generate`` does.
    """
    settings = _settings(tasks, options)
    if questions_per_scene < 1:
        raise SpecError(
            f"simulator.questionsPerScene: {questions_per_scene} is too small, use 1 or more"
        )
    rng_seed = derive_seed(seed, "sim-scene", *tasks, index)
    lead = index % len(tasks)
    order = (*tasks[lead:], *tasks[:lead])
    image, questions = _ask(order, rng_seed, questions_per_scene, settings)
    return tuple(
        _sample(question, image, f"{question.task}-{seed}-{index}-{number}")
        for number, question in enumerate(questions)
    )


def _settings(tasks: Sequence[str], options: Options) -> SimOptions:
    settings = SimOptions(**options)
    if not tasks:
        raise SpecError("simulator.tasks: is empty, name at least one task")
    for task in tasks:
        if task not in TASKS:
            raise SpecError(f"simulator.tasks: {task!r} is unknown, use one of {', '.join(TASKS)}")
        if task in ROOM_TASKS and settings.max_objects < ROOM_TASKS[task].solids:
            raise SpecError(
                f"simulator.maxObjects: {settings.max_objects} is too small for {task},"
                f" use {ROOM_TASKS[task].solids} or more"
            )
    return settings


def _ask(
    tasks: Sequence[str], rng_seed: int, wanted: int, options: SimOptions
) -> tuple[bytes, list[Question]]:
    """A picture (PNG) and its questions; the first is of ``tasks[0]``."""
    if tasks[0] in FIGURES:
        figure = FIGURES[tasks[0]](Random(rng_seed), options.image_size)
        return png(figure.image), list(figure.questions[:wanted])
    rooms = [task for task in tasks if task in ROOM_TASKS]
    best: tuple[View, list[Question]] | None = None
    for attempt in range(_TRIES):
        rng = Random(derive_seed(rng_seed, "scene", attempt))
        # The plan outlives an attempt, or scenes that are easy to place would crowd out others.
        plan = Random(derive_seed(rng_seed, "plan", attempt // _TRIES_PER_PLAN))
        stage = _draw_stage(plan, rng, rooms[0], options)
        if stage is None:
            continue
        drafts = _draft(rooms, stage, rng, wanted)
        if not drafts or (len(drafts) < wanted and attempt < _TRIES_PER_PLAN // 2):
            continue
        view = photograph(stage.scene, options.wall_light)
        shown = [question for question in drafts if _visible(question, view)]
        if not shown or shown[0] is not drafts[0]:
            continue
        if best is None or len(shown) > len(best[1]):
            best = view, shown
        if len(shown) == min(wanted, len(drafts)):
            break
    if best is None:
        raise SpecError(
            f"simulator.tasks: no clear scene for {tasks[0]} in {_TRIES} tries,"
            " lower minObjects or raise imageSize"
        )
    return png(best[0].image), best[1]


def _draw_stage(plan: Random, rng: Random, task: str, options: SimOptions) -> Stage | None:
    """A scene that suits ``task``: labels from the plan, places from ``rng``."""
    labels = palette(options)
    focus = None
    if task == "ObjectCount":
        # The answer is drawn first, so that every count is as likely as another.
        focus = plan.choice(labels)
        copies = plan.randint(0, min(MOST_COUNTED, options.max_objects))
        total = plan.randint(max(copies, options.min_objects), options.max_objects)
        others = [label for label in labels if label != focus]
        chosen = [focus] * copies + plan.choices(others, k=total - copies)
    else:
        total = plan.randint(max(options.min_objects, ROOM_TASKS[task].solids), options.max_objects)
        if ROOM_TASKS[task].repeats and plan.random() < 0.5:
            chosen = plan.choices(labels, k=total)
        else:
            unique = plan.sample(labels, min(total, len(labels)))
            chosen = unique + plan.choices(labels, k=total - len(unique))
    rng.shuffle(chosen)
    scene = draw_scene(rng, options, chosen)
    return None if scene is None else Stage.of(scene, labels, options, focus)


def _draft(rooms: Sequence[str], stage: Stage, rng: Random, wanted: int) -> list[Question]:
    """Different questions about a stage, led by the first task; empty if that has none."""
    drafts: list[Question] = []
    for turn in range(2 * wanted):
        task = ROOM_TASKS[rooms[turn % len(rooms)]]
        known = {draft.text for draft in drafts}
        asked = (task.ask(stage, rng) for _ in range(_TRIES_PER_QUESTION))
        clear = (question for question in asked if question and question.text not in known)
        question = next(clear, None)
        if question is not None:
            drafts.append(question)
        elif turn == 0:
            return []
        if len(drafts) == wanted:
            break
    return drafts


def _visible(question: Question, view: View) -> bool:
    """Whether everything that the question is about can be seen well enough."""
    least = MIN_VISIBLE_PIXELS * (view.ids.shape[0] / 64) ** 2
    return all(
        view.visible[i] >= least and view.hidden(i) <= MAX_HIDDEN_SHARE for i in question.subjects
    )


def _sample(question: Question, image: bytes, name: str) -> Sample:
    domain: Domain = "general" if question.task in FIGURES else "spatial"
    return Sample(
        id=name,
        domain=domain,
        task=question.task,
        source=SOURCE,
        question=question.text,
        answer=question.answer,
        answer_type=question.answer_type,
        reward=question.reward,
        images=(image,),
        unit=question.unit,
        chain=chain(question.thought, question.answer),
    )
