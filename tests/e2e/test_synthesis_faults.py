"""Three pods make a dataset while everything fails: nothing lost, nothing double, same bytes."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hardship import OWNER_DIES_AT, Job
from integration.store.faultproxy import fault_proxy
from runs import M2R
from s3server import Server
from teacherserver import serving


@pytest.mark.s3
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_s3_errors_kills_and_a_bad_teacher(
    tmp_path: Path, m2r: M2R, s3: Server
) -> None:
    job = Job(tmp_path, samples=400, shards=4, nodes=3)
    job.write_questions()
    quiet, rough = (s3.make_bucket(f"t-{uuid.uuid4().hex}") for _ in range(2))
    with serving(faults=False) as teacher, fault_proxy(s3.endpoint) as proxy:
        url = f"http://127.0.0.1:{teacher.server_port}/v1"
        undisturbed = job.carry(m2r, s3, job.spec(quiet, s3.endpoint, url), die=False)
        teacher.fails_every, proxy.rate = 8, 0.1
        disturbed = job.carry(m2r, s3, job.spec(rough, proxy.endpoint, url), die=True)
    assert set(teacher.failed) == {"stall", "down", "later", "rubbish", "cut"}
    assert disturbed.deaths >= len(OWNER_DIES_AT)
    assert proxy.met > 0.03 * len(proxy.seen)
    assert job.faults(disturbed) == []
    assert (undisturbed.deaths, undisturbed.manifest) == (0, disturbed.manifest)
    assert (undisturbed.ids, undisturbed.digest) == (disturbed.ids, disturbed.digest)
