"""Both versions of helm that the chart supports, built on first use."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.chart.rendering import MATRIX, Helm, Values

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test on a new machine builds helm, which takes minutes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(
                pytest.mark.cluster
            )  # with them: both need tools that take minutes to build
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm 4; for each set of the matrix Helm 3 makes the same objects, which a test compares."""
    return Helm("helm")


@pytest.fixture(scope="session", params=["helm", "helm3"])
def each_helm(request: pytest.FixtureRequest) -> Helm:
    """Helm 4 and Helm 3, for what they do by code of their own: to refuse, to lint, to pack."""
    return Helm(request.param)


@pytest.fixture(params=MATRIX.values(), ids=MATRIX.keys())
def values(request: pytest.FixtureRequest) -> Values:
    """Each value set of the matrix."""
    given: Values = request.param
    return given
