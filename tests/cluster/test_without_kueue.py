"""A cluster without Kueue: a queue in a manifest changes nothing, and the run says so."""

from __future__ import annotations

from cluster.kueue import installed
from lab import Lab
from plays import play, rlvr

from m2r_operator import names


def test_a_queue_without_kueue_is_ignored_and_said(room: Lab) -> None:
    assert not installed(room.cluster), "Kueue is installed here: remove it, or unset KUBECONFIG"
    by_spec = rlvr("by-spec", uri=play(steps=3), scheduling={"queue": "research"})
    by_label = rlvr("by-label", uri=play(steps=3))
    by_label["metadata"]["labels"] = {names.QUEUE: "research"}
    room.apply(by_spec, by_label)
    for name in ("by-spec", "by-label"):
        room.until_phase("RLVRJob", name, "Succeeded")
        admitted = room.condition("RLVRJob", name, "Admitted")
        assert admitted is not None
        assert (admitted["status"], admitted["reason"]) == ("True", "NoKueue")
        assert "research is ignored: Kueue is not installed" in admitted["message"]
        [job] = room.jobs("RLVRJob", name)
        assert job["spec"].get("suspend", False) is False
        assert names.QUEUE not in job["metadata"]["labels"]
        assert "Queued" not in room.events(name)
