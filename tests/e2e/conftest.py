"""One undisturbed run of the small manifests for each test process, and ``m2r`` to run more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import s3  # noqa: F401 - a fixture
from runs import M2R, Golden, manifests, run, write
from trials import Trial

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests start many processes, which on a machine with other work take their time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture
def m2r(tmp_path: Path) -> Iterator[M2R]:
    """``m2r`` processes with a cache and a termination log of their own."""
    processes = M2R(tmp_path)
    yield processes
    processes.kill_all()


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """All small manifests, run to the end without a disturbance. Tests only read it."""
    folder = tmp_path_factory.mktemp("golden")
    files = write(manifests(), folder / "manifests")
    report = ("--report", str(folder / "report.html"))
    return run(M2R(folder), files, (folder / "store").as_uri(), *report)


@pytest.fixture
def trial(request: pytest.FixtureRequest, golden: Golden, m2r: M2R, tmp_path: Path) -> Trial:
    """The stage that the test is parametrised with (see `stages`)."""
    return Trial(m2r, golden, request.param, tmp_path)
