"""Any order of claims, commits, crashes, zombies and prunes, against a model of what must hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import takewhile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from m2r_train.api.errors import FencedError
from m2r_train.store import LocalStore, Run, read_head

# Thousands of fsyncs, and not what is tested here: in memory where there is such a place.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
POINTS = ["before-file", "before-manifest", "after-manifest", "before-head", "after-head"]
PRUNE_POINTS = ["before-prune-head", "after-prune-head", "before-delete"]


class Crash(BaseException):
    """The process is gone at this point."""


class Machine(RuleBasedStateMachine):
    """``chain`` is the model: the (epoch, step) in HEAD, newest first.

    ``base`` is what the owner builds on: ``chain`` without the damaged ones it found at its start.
    """

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="m2r-machine-", dir=MEMORY))
        self.store = LocalStore(self.folder)
        self.runs: list[Run] = []
        self.attempt = 1
        self.crash_at: str | None = None
        self.chain: list[tuple[int, int]] = []
        self.damaged: set[tuple[int, int]] = set()
        self.seen_bad: set[tuple[int, int]] = set()
        self.clock = 0
        self.claim(1)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def probe(self, name: str) -> None:
        if name == self.crash_at:
            self.crash_at = None
            raise Crash

    def content(self, step: int) -> dict[str, bytes]:
        return {"state": b"%d" % step}

    @rule(ahead=st.integers(0, 2))
    def claim(self, ahead: int) -> None:
        """The next owner: resumes from the newest checkpoint that is not damaged."""
        self.attempt += ahead
        epoch = self.runs[-1].epoch if self.runs else 0
        run = Run.claim(self.store, self.attempt, probe=self.probe)
        assert run.epoch == epoch + 1
        found = run.latest()
        bad = list(takewhile(lambda ref: ref in self.damaged, self.chain))
        self.seen_bad.update(bad)
        self.base = self.chain[len(bad) :]
        assert (found and (found.epoch, found.step)) == (self.base[0] if self.base else None)
        if found:
            assert dict(found.files) == self.content(found.step)
        self.runs.append(run)

    @rule()
    def old_attempt(self) -> None:
        if self.attempt > 0:
            try:
                Run.claim(self.store, self.attempt - 1)
            except FencedError:
                return
            raise AssertionError("an older attempt has claimed the run")

    @rule()
    def commit(self) -> None:
        self.clock += 1
        owner = self.runs[-1]
        owner.commit(self.clock, self.content(self.clock))
        self.chain = self.base = [(owner.epoch, self.clock), *self.base]

    @rule(point=st.sampled_from(POINTS))
    def crash_in_commit(self, point: str) -> None:
        self.crash_at = point
        self.clock += 1
        owner = self.runs[-1]
        try:
            owner.commit(self.clock, self.content(self.clock))
        except Crash:
            if point == "after-head":
                self.chain = [(owner.epoch, self.clock), *self.base]
            self.claim(1)
            return
        raise AssertionError(f"a commit does not pass {point}")

    @rule(keep=st.integers(1, 3))
    def prune(self, keep: int) -> None:
        self.runs[-1].prune(keep)
        self.chain = self.base = self.base[:keep]

    @rule(keep=st.integers(1, 2), point=st.sampled_from(PRUNE_POINTS))
    def crash_in_prune(self, keep: int, point: str) -> None:
        self.crash_at = point
        try:
            self.runs[-1].prune(keep)
        except Crash:
            if point == "before-prune-head":
                self.claim(1)
                return
        self.crash_at = None
        self.chain = self.base = self.base[:keep]
        self.claim(1)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(which=st.integers(0, 10), keep=st.integers(1, 2))
    def zombie(self, which: int, keep: int) -> None:
        zombie = self.runs[which % (len(self.runs) - 1)]
        for act in (
            lambda: zombie.commit(self.clock + 1, {"state": b"of a zombie"}),
            lambda: zombie.prune(keep),
            lambda: zombie.finish({}),
        ):
            try:
                act()
            except FencedError:
                continue
            raise AssertionError("a zombie has changed the run")

    @precondition(lambda self: self.chain)
    @rule(which=st.integers(0, 10))
    def rot(self, which: int) -> None:
        epoch, step = self.chain[which % len(self.chain)]
        path = self.folder / f"checkpoints/e{epoch}-s{step}/state"
        path.write_bytes(path.read_bytes() + b"?")
        self.damaged.add((epoch, step))
        self.claim(1)

    @invariant()
    def head_names_what_is_committed(self) -> None:
        head = read_head(self.store)
        assert head is not None
        assert [(ref.epoch, ref.step) for ref in head.chain] == self.chain
        assert head.epoch == self.runs[-1].epoch

    @invariant()
    def nothing_is_deleted_that_is_needed_or_was_found_damaged(self) -> None:
        for epoch, step in {*self.chain, *self.seen_bad}:
            folder = self.folder / f"checkpoints/e{epoch}-s{step}"
            assert (folder / "MANIFEST.json").exists()
            assert (folder / "state").exists()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestMachine = Machine.TestCase
