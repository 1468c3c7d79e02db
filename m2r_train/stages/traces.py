"""What the model was asked and said: a few groups for the report, and files for every question.

``traces/step-<step>.jsonl`` of a run holds whole groups of one step, a prompt a line. The files
are written with the checkpoint that holds their step, just before it, so none is ahead of the run
for long, and a resumed run writes the same bytes again: what a step drew is in the journal until
its checkpoint is there.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any, Final

from m2r_train.api.rlvr import Traces
from m2r_train.core.records import Sample
from m2r_train.data.images import decode
from m2r_train.model.policy import Prompt
from m2r_train.stages.context import Context
from m2r_train.stages.grpo import Scored
from m2r_train.telemetry.history import to_lines
from m2r_train.telemetry.tracefiles import trace_key

_REPORT_STEPS: Final = 40  # steps of a run whose traces lie in its records
_REPORT_GROUPS: Final = 2  # prompts of such a step
_MOST_FILES: Final = 500  # of a run, where the spec leaves it open
_THUMBNAIL: Final = 256  # pixels, the longer side of a picture in a trace
_REPEATED: Final = re.compile(r"(<\|[a-z_]+\|>)\1+")  # a picture's placeholders


class Tracer:
    """Keeps traces of an RLVR run of ``total`` steps as its spec asks."""

    def __init__(
        self, ctx: Context, asked: Traces, total: int, text: Callable[[Prompt], str]
    ) -> None:
        """``text``: a prompt as the model reads it."""
        self._ctx, self._total, self._text = ctx, total, text
        self._groups = asked.per_step
        self._every = asked.every or -(-total // _MOST_FILES)

    def keep(self, step: int, scored: Scored, prompts: Callable[[str], Prompt]) -> None:
        """Keep what the model said in ``step``, where that is due; rank 0 alone does."""
        if not self._ctx.ranks.leads:
            return
        last = step == self._total - 1
        if last or step % max(1, self._total // _REPORT_STEPS) == 0:
            groups = range(min(_REPORT_GROUPS, len(scored.samples)))
            self._ctx.traces += [trace_of(step, scored.samples[i], scored, i) for i in groups]
        if self._groups and (last or step % self._every == 0):
            self._ctx.trace_files[trace_key(step)] = to_lines(
                [
                    trace_of(step, sample, scored, i) | self._prompt(prompts(sample.id))
                    for i, sample in enumerate(scored.samples[: self._groups])
                ]
            )

    def _prompt(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "prompt": _REPEATED.sub(r"\1", self._text(prompt)),
            "prompt_tokens": len(prompt.tokens),
        }


def trace_of(step: int, sample: Sample, scored: Scored, i: int) -> dict[str, Any]:
    """One prompt's completions with their rewards and advantages.

    ``reward`` is the whole: of the task, of the format by its weight, and penalties; ``accuracy``
    is what the group's ``weight`` (Eq. 6) is made from.
    """
    return {
        "step": step,
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "answer": sample.answer,
        "image": thumbnail(sample),
        "pictures": len(sample.images) + len(sample.video or ()),
        "weight": scored.advantages[i].weight,
        "completions": [
            {
                "text": scored.texts[i][g],
                "extracted": reward.extracted,
                "reward_task": reward.task,
                "reward_format": reward.format,
                **({"reward_own": dict(reward.own)} if reward.own else {}),
                "reward": reward.total,
                "accuracy": reward.accuracy,
                "advantage": scored.advantages[i].advantages[g],
                "tokens": len(scored.groups[i][g].tokens),
                "truncated": scored.groups[i][g].truncated,
            }
            for g, reward in enumerate(scored.rewards[i])
        ],
    }


def thumbnail(sample: Sample) -> str | None:
    """A data URI of the first picture or frame, small enough for a trace; None without one."""
    files = (*sample.images, *(sample.video or ()))
    if not files:
        return None
    data, kind = files[0], "png"
    image = decode(data)
    if max(image.size) > _THUMBNAIL:
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        data, kind = buffer.getvalue(), "jpeg"
    elif not data.startswith(b"\x89PNG"):
        kind = "jpeg" if data.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
