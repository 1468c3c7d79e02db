"""Thresholds that shape a dataset and are no fields of the spec, for its manifest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from m2r_train.core.difficulty import EDNM_SPREAD
from m2r_train.core.minhash import BANDS, ROWS
from m2r_train.core.repetition import REPEATS, SEGMENT_CHARS
from m2r_train.spatial.margins import DEFAULT
from m2r_train.stages.grading import VERDICT_TOKENS


def constants() -> dict[str, dict[str, Any]]:
    """By what they decide: equal manifests are of datasets that were made by equal rules."""
    return {
        "difficulty": {"ednmSpread": EDNM_SPREAD},
        "repetition": {"segmentChars": SEGMENT_CHARS, "repeats": REPEATS},
        "judge": {"verdictTokens": VERDICT_TOKENS},
        "nearDuplicates": {"bands": BANDS, "rows": ROWS},
        "spatialMargins": asdict(DEFAULT),
    }
