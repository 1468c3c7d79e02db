"""The cache of runs: newest wins, the dead stay dead, references are told."""

from __future__ import annotations

import pytest
from operator_objects import KEY, done, rlvr, seen, sft, uid

from m2r_operator.runs import Runs
from m2r_operator.state import Key
from m2r_train.api import RunInput

RL = Key("RLVRJob", "ns", "rl")
FROM_CI = {"from": {"kind": "SFTJob", "name": "ci"}}


class Cache(Runs):
    """Runs that note who was called dirty."""

    def __init__(self) -> None:
        self.dirty: list[Key] = []
        super().__init__(self.dirty.append)

    def news(self) -> list[Key]:
        found, self.dirty[:] = list(self.dirty), []
        return found


def attempt(runs: Runs) -> int | None:
    run = runs.get(KEY)
    return run.status.attempt if run is not None else None


def test_the_newer_of_two_versions_wins_in_any_order() -> None:
    older, newer = sft(version=9, status={"attempt": 1}), sft(version=10, status={"attempt": 2})
    for order in ([older, newer], [newer, older], [newer, newer, older, newer]):
        runs = Cache()
        for body in order:
            runs.put("SFTJob", body)
        assert attempt(runs) == 2
        assert runs.news() == [KEY] * (2 if order[0] is older else 1)


def test_what_is_deleted_does_not_come_back_with_late_news() -> None:
    runs = Cache()
    runs.put("SFTJob", sft(version=5))
    runs.remove("SFTJob", sft(version=8))
    assert not runs.put("SFTJob", sft(version=7))
    assert runs.get(KEY) is None
    assert len(runs) == 0


def test_a_run_made_anew_under_its_name_is_another() -> None:
    runs = Cache()
    runs.put("SFTJob", sft(version=5, status={"attempt": 3}))
    again = sft(version=9)
    again["metadata"]["uid"] = "another"
    runs.put("SFTJob", again)
    assert (attempt(runs), runs.key_of_uid("another"), runs.key_of_uid(uid("ci"))) == (0, KEY, None)
    runs.remove("SFTJob", sft(version=8))  # the old one's deletion comes late
    assert attempt(runs) == 0


def test_a_spec_is_parsed_once_for_a_generation() -> None:
    runs = Cache()
    runs.put("SFTJob", sft(version=1))
    first = runs.get(KEY)
    runs.put("SFTJob", sft(version=2, status={"attempt": 1}))
    second = runs.get(KEY)
    changed = sft(version=3, suspend=True)
    changed["metadata"]["generation"] = 2
    runs.put("SFTJob", changed)
    third = runs.get(KEY)
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.spec is first.spec
    assert third.spec is not first.spec
    assert third.spec is not None
    assert third.spec.suspend


def test_a_poisoned_run_stops_no_other() -> None:
    runs = Cache()
    runs.put("SFTJob", {**sft("bad"), "spec": {"model": 3}})
    runs.put("SFTJob", sft())
    bad = runs.get(Key("SFTJob", "ns", "bad"))
    assert bad is not None
    assert bad.spec is None
    assert "spec.model" in bad.unreadable
    good = runs.get(KEY)
    assert good is not None
    assert good.spec is not None


def test_a_full_list_replaces_what_is_known() -> None:
    runs = Cache()
    runs.put("SFTJob", sft("gone", version=3))
    runs.put("SFTJob", sft("young", version=50))  # made after the list was read
    runs.put("RLVRJob", rlvr(version=4))
    runs.put("SFTJob", sft(version=5))
    runs.news()
    news = runs.replace("SFTJob", None, [sft(version=6), sft("new", version=7)], version=40)
    names = {(run.key.kind, run.key.name) for run in runs}
    assert names == {("SFTJob", "young"), ("RLVRJob", "rl"), ("SFTJob", "ci"), ("SFTJob", "new")}
    assert {key.name for key in news} == {"ci", "new", "gone"}
    assert {key.name for key in runs.news()} == {"ci", "new", "gone"}


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    runs = Cache()
    runs.put("SFTJob", sft())
    runs.replace("SFTJob", "other", [], version=99)
    assert len(runs) == 1
    runs.replace("SFTJob", "ns", [], version=99)
    assert len(runs) == 0


def waiting(runs: Runs) -> tuple[str, str, RunInput | None]:
    run = runs.get(RL)
    assert run is not None
    (found,) = runs.dependencies(run)
    assert (found.field, found.kind, found.name) == ("model", "SFTJob", "ci")
    return found.reason, found.message, found.input


def test_a_reference_is_resolved_from_what_the_other_run_has_come_to() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(model=FROM_CI))
    assert waiting(runs)[:2] == ("DependencyMissing", "SFTJob/ci does not exist here; apply it")
    runs.put("SFTJob", sft(version=2))
    assert waiting(runs)[:2] == ("DependencyRunning", "waits for SFTJob/ci")
    outputs = {"modelUri": "s3://b/model", "digest": "d"}
    runs.put("SFTJob", sft(version=3, status=done(**outputs)))
    assert waiting(runs) == ("", "", RunInput(uri="s3://b/model", digest="d"))
    runs.remove("SFTJob", sft(version=4))
    assert waiting(runs)[0] == "DependencyMissing"


def test_a_failed_and_an_empty_result_say_what_to_do() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(model=FROM_CI))
    failed = done()
    failed["conditions"][0]["type"] = "Failed"
    runs.put("SFTJob", sft(version=2, status=failed))
    reason, message, _ = waiting(runs)
    assert (reason, "apply it anew" in message) == ("DependencyFailed", True)
    runs.put("SFTJob", sft(version=3, status=done()))
    assert waiting(runs)[0] == "DependencyFailed"


def test_a_split_that_is_not_made_is_told_at_once() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(dataset={"from": {"kind": "DataSynthesisJob", "name": "d"},
                                      "split": "rlvr"}))  # fmt: skip
    spec = {
        "sources": [{"name": "r", "simulator": {"tasks": ["RoomSize"], "scenes": 4}}],
        "outputs": {"sft": 4, "rlvr": 0, "eval": 0},
    }
    meta = {"name": "d", "namespace": "ns", "uid": "u", "resourceVersion": "3", "generation": 1}
    runs.put("DataSynthesisJob", {"metadata": meta, "spec": spec})
    made = runs.get(Key("DataSynthesisJob", "ns", "d"))
    assert made is not None
    assert made.spec is not None, made.unreadable
    run = runs.get(RL)
    assert run is not None
    (found,) = runs.dependencies(run)
    assert found.reason == "DependencySplitMissing"
    assert "spec.outputs.rlvr > 0" in found.message


def test_runs_that_wait_for_each_other_are_told_the_chain() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr("a", model={"from": {"kind": "RLVRJob", "name": "b"}}))
    runs.put("RLVRJob", rlvr("b", model={"from": {"kind": "RLVRJob", "name": "c"}}))
    runs.put("RLVRJob", rlvr("c", model={"from": {"kind": "RLVRJob", "name": "b"}}))
    found = {}
    for run in runs:
        (found[run.key.name],) = runs.dependencies(run)
    assert found["a"].reason == "DependencyRunning"
    assert found["b"].reason == found["c"].reason == "DependencyCycle"
    assert found["b"].message.startswith("RLVRJob/b -> RLVRJob/c -> RLVRJob/b refer to each other")


def test_who_refers_to_a_run_is_told_of_what_it_comes_to_and_of_nothing_else() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(model=FROM_CI))
    runs.news()
    runs.put("SFTJob", sft(version=2))
    assert runs.news() == [KEY, RL]
    runs.put("SFTJob", sft(version=3, status={"attempt": 1, "phase": "Running"}))
    assert runs.news() == [KEY]
    runs.put("SFTJob", sft(version=4, status=done(modelUri="s3://b/m")))
    assert runs.news() == [KEY, RL]
    runs.remove("SFTJob", sft(version=5))
    assert runs.news() == [KEY, RL]


def test_a_reference_that_is_dropped_is_not_told_any_more() -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(model=FROM_CI))
    changed = rlvr(version=2)
    changed["metadata"]["generation"] = 2
    runs.put("RLVRJob", changed)
    runs.news()
    runs.put("SFTJob", sft(version=3))
    assert runs.news() == [KEY]
    assert runs._referrers == {}


@pytest.mark.parametrize("name", ["ci", "elsewhere"])
def test_references_stay_within_their_namespace(name: str) -> None:
    runs = Cache()
    runs.put("RLVRJob", rlvr(model={"from": {"kind": "SFTJob", "name": name}}))
    other = sft(version=2, status=done(modelUri="s3://b/m"))
    other["metadata"]["namespace"] = "other"
    runs.put("SFTJob", other)
    run = runs.get(RL)
    assert run is not None
    assert runs.dependencies(run)[0].reason == "DependencyMissing"


def test_dependencies_of_a_version_that_is_not_cached_are_its_own() -> None:
    runs = Cache()
    assert runs.dependencies(seen(rlvr(model=FROM_CI)))[0].reason == "DependencyMissing"
