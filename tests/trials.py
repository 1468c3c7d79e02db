"""One stage of a golden run, computed again in a store of its own and disturbed there."""

from __future__ import annotations

import copy
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from runs import KILLED, M2R, Done, Golden, Process, files_under, stage_file

from m2r_train.store import read_head
from m2r_train.store.local import LocalStore

TRAINING = ("sft", "rlvr")


@dataclass
class Trial:
    """A stage of the golden run in a store of its own, attempt by attempt."""

    m2r: M2R
    golden: Golden
    name: str
    home: Path
    journals: list[set[tuple[int, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = stage_file(self.golden, self.name, self.home / "store", self.home / "spec.json")
        self.folder = self.home / "store" / self.spec.run_prefix

    def start(self, *, port: int = 0, **env: str) -> Process:
        """Starts an attempt."""
        return self.m2r.start("stage", "--spec", self.home / "spec.json", "--port", port, **env)

    def start_pod(self, index: int, **env: str) -> Process:
        """Starts the pod with this index of an Indexed Job, with a termination log of its own."""
        log = {"M2R_TERMINATION_LOG": str(self.home / f"termination-log-{index}")}
        return self.start(JOB_COMPLETION_INDEX=str(index), **log, **env)

    def change(self, path: str, value: Any) -> None:
        """Sets one field of the spec, e.g. ``resources.nodes``, in this trial's run."""
        spec = copy.deepcopy(self.spec.spec)
        *parents, last = path.split(".")
        at = spec
        for parent in parents:
            at = at[parent]
        at[last] = value
        self.spec = self.spec.model_copy(update={"spec": spec})
        (self.home / "spec.json").write_text(self.spec.to_json())

    @property
    def last_words(self) -> dict[str, Any]:
        """The termination message of the last process that was no pod of several."""
        words: dict[str, Any] = json.loads((self.m2r.home / "termination-log").read_text())
        return words

    def ended(self, process: Process) -> Done:
        """Waits for an attempt's end, and notes what is in the journal then."""
        done = process.wait()
        self.journals.append(self.journal())
        return done

    def killed_at(self, point: str) -> None:
        """An attempt that dies at a named point (``name:n``, the nth time)."""
        done = self.ended(self.start(M2R_KILL_AT=point))
        assert done.code == KILLED, f"{self.name} never came to {point}: {done.err}"

    def finish(self) -> Done:
        """An attempt that nobody disturbs; the run has to be as golden after it."""
        done = self.ended(self.start())
        assert done.code == 0, done.err
        self.check()
        return done

    def check(self) -> None:
        """The result is that of the golden run, bit for bit, and nothing lies about."""
        golden = self.golden.folder(self.name)
        head = read_head(LocalStore(self.folder))
        assert head is not None and head.done and head.result is not None
        assert head.result["digest"] == self.golden.digests[self.name]
        for part in ("model", "dataset", "eval"):
            assert files_under(self.folder / part) == files_under(golden / part)
        if self.name in TRAINING:
            history = "records/history.jsonl"
            assert (self.folder / history).read_bytes() == (golden / history).read_bytes()
            kept = {f"e{ref.epoch}-s{ref.step}" for ref in head.chain}
            there = {path.name for path in (self.folder / "checkpoints").iterdir()}
            assert there == kept | {Path(bad).name for bad in head.bad}
            assert len(kept) <= 2
        assert self.journal() == set()
        assert self.nothing_paid_twice()

    def journal(self) -> set[tuple[int, str]]:
        """(epoch, key) of every journal entry."""
        found = set()
        for file in (self.folder / "journal").rglob("*"):
            if file.is_file() and not file.name.startswith(".m2r-"):
                epoch, _, key = file.relative_to(self.folder / "journal").as_posix().partition("/")
                found.add((int(epoch.removeprefix("e")), key))
        return found

    def nothing_paid_twice(self) -> bool:
        """What one attempt has put into the journal no other attempt has made again."""
        writers: dict[str, set[int]] = {}
        for journal in self.journals:
            for epoch, key in journal:
                writers.setdefault(key, set()).add(epoch)
        return all(len(epochs) == 1 for epochs in writers.values())

    def step(self) -> int:
        """The step of the newest commit."""
        head = read_head(LocalStore(self.folder))
        return 0 if head is None else head.step


def stages(*names: str) -> pytest.MarkDecorator:
    """Gives the test a ``trial`` of each of these stages."""
    return pytest.mark.parametrize("trial", names, indirect=True)


def without_torch(folder: Path) -> dict[str, str]:
    """An environment in which the import of torch never comes to an end."""
    package = folder / "hanging" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import time\ntime.sleep(3600)\n")
    return {"PYTHONPATH": os.pathsep.join([str(package.parent), *(p for p in sys.path if p)])}
