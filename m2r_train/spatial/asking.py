"""Different questions about one scene, and what becomes of a question: a sample."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.spatial.margins import DEFAULT, Margins
from m2r_train.spatial.scene import Scene
from m2r_train.spatial.tasks import IMAGE_TASKS, VIDEO_TASKS, Question

TASKS = {**VIDEO_TASKS, **IMAGE_TASKS}
VIDEO_PREFIX = "These are frames of a video.\n"
_TRIES = 12  # other things may be clear where the first were ambiguous


def questions(
    scene: Scene, tasks: Sequence[str], seed: int, wanted: int, margins: Margins = DEFAULT
) -> list[Question]:
    """Up to ``wanted`` different questions, going round ``tasks`` in order.

    A task that the scene cannot serve clearly is passed over.
    """
    found: list[Question] = []
    known: set[str] = set()
    for turn in range(2 * max(wanted, len(tasks))):
        task = tasks[turn % len(tasks)]
        for attempt in range(_TRIES):
            rng = Random(derive_seed(seed, "question", task, turn, attempt))
            question = TASKS[task](scene, rng, margins)
            if question is not None and question.text not in known:
                known.add(question.text)
                found.append(question)
                break
        if len(found) == wanted:
            break
    return found


def to_sample(
    question: Question,
    name: str,
    source: str,
    *,
    images: tuple[bytes, ...] = (),
    video: tuple[bytes, ...] | None = None,
) -> Sample:
    """The question with what it is about, and the template teacher's chain."""
    return Sample(
        id=name,
        domain="spatial",
        task=question.task,
        source=source,
        question=question.text if video is None else VIDEO_PREFIX + question.text,
        answer=question.answer,
        answer_type=question.answer_type,
        reward=question.reward,
        images=images,
        video=video,
        options=question.options,
        unit=question.unit,
        chain=f"<think> {question.thought} </think><answer>\\boxed{{{question.answer}}}</answer>",
    )
