"""Rules for every test: one thread, no draw from a global generator, a store of one's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports torch. One thread is also what is fastest where tests run side by side.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random

import hypothesis
import pytest

# No deadline: a shared machine may stop a test for seconds. In CI the same examples every time;
# by hand new ones, so that the search goes on.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

MARKED_CLASSES = ("s3", "slow", "cluster", "prometheus")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Writes each test's marked classes into the report, for ``tools/require_classes.py``."""
    for item in items:
        for name in MARKED_CLASSES:
            if item.get_closest_marker(name):
                item.user_properties.append(("class", name))


def global_rng_states() -> dict[str, Any]:
    """A comparable copy of the global generator's state of each module that is loaded."""
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        import numpy.random  # light; numpy itself loads it at the first use only

        state: Any = numpy.random.get_state(legacy=False)
        keys = state["state"]["key"].tobytes()
        states["numpy.random"] = (keys, state["state"]["pos"], state["has_gauss"], state["gauss"])
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):  # else its import is under way
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


@pytest.fixture(autouse=True)
def _no_global_rng(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that moved a global generator: all randomness comes from ``derive_seed``.

    ``@pytest.mark.global_rng("reason")`` excuses a test in which a library draws by itself.
    """
    before = global_rng_states()
    yield
    if request.node.get_closest_marker("global_rng"):
        return
    moved = [
        name for name, state in global_rng_states().items() if before.get(name, state) != state
    ]
    if moved:
        pytest.fail(
            f"the test moved the global generator of {', '.join(moved)}: draw from a generator "
            "made with m2r_train.core.rng.derive_seed",
            pytrace=False,
        )


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Gives torch back its number of threads: a run sets its own, and results depend on it."""
    torch = sys.modules.get("torch")
    ready = torch is not None and hasattr(torch, "get_num_threads")  # else: import under way
    threads = torch.get_num_threads() if torch is not None and ready else None
    yield
    if torch is not None and threads not in (None, torch.get_num_threads()):
        torch.set_num_threads(threads)


@pytest.fixture
def store_uri(tmp_path: Path) -> str:
    """The URI of an empty store of the test's own (``file://``)."""
    return (tmp_path / "store").as_uri()
