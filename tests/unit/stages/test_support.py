"""What a run cannot do is said by field, with the sample's name."""

from __future__ import annotations

import pytest
from unit.model.tinies import sample

from m2r_train.api.errors import ConfigError
from m2r_train.stages.support import refuse_videos

FILM = sample(id="film", video=(b"",))


def test_a_video_and_vllm_are_refused_by_field_and_sample() -> None:
    with pytest.raises(
        ConfigError, match=r"^spec\.rollout\.engine: sample 'film' has a video"
    ) as told:
        refuse_videos("rollout.engine", "vllm", [sample(), FILM])
    assert "inprocess" in str(told.value)


def test_all_else_passes() -> None:
    refuse_videos("rollout.engine", "inprocess", [FILM])
    refuse_videos("rollout.engine", "vllm", [sample(images=(b"",))])
