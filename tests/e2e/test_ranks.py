"""Several processes train one model: disturbed or not, they end with the same bits."""

from __future__ import annotations

import pytest
from trials import Trial, stages

pytestmark = pytest.mark.slow


@stages("sft", "rlvr")
def test_two_ranks(trial: Trial) -> None:
    trial.change("resources.processesPerNode", 2)
    done = trial.ended(trial.start())
    print(done)
    assert done.code == 0, done.err
