"""What the stages of synthesis tell Prometheus of, so that it adds up with the dataset's manifest.

``collect`` counts records of the users' datasets, dropped where they cannot be read. ``verify``
counts samples: made by templates and dropped where their chain is wrong, or collected.
``generate`` counts a teacher's chains, dropped where no judge need see them, and ``quality`` those
that are judged, kept where they are the best of their question and over the bar. ``difficulty``
counts samples that are measured. ``route`` counts what ``verify`` kept and ``difficulty`` did not
drop, kept where a split holds it. At each stage ``in`` is ``kept`` and ``dropped``.

Every part of the work is counted once by the pod that owns the run, when it joins it, whoever made
it and in whichever attempt: a pod that helps counts nothing, and an attempt begins at zero.
"""

from __future__ import annotations

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.stages.context import Context

_SERIES = "m2r_synthesis_samples_total"


def begin(ctx: Context, spec: DataSynthesisSpec) -> None:
    """Show the stages that a job goes through at zero: a rate sees what comes after one."""
    through = {
        "collect": any(source.dataset is not None for source in spec.sources),
        "verify": True,
        "generate": spec.generator.teaches,
        "quality": spec.generator.teaches,
        "difficulty": spec.difficulty is not None,
        "route": True,
    }
    for stage in (name for name, there in through.items() if there):
        count(ctx, stage, 0, 0)


def count(ctx: Context, stage: str, into: int, kept: int) -> None:
    """Count what came into a stage, and what of it went on."""
    if not ctx.place.helps:
        for outcome, n in {"in": into, "kept": kept, "dropped": into - kept}.items():
            ctx.metrics.inc(_SERIES, n, stage=stage, outcome=outcome)
