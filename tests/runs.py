"""Whole runs that take seconds: small manifests of all four kinds, and ``m2r`` as a real process.

The manifests are those of the quickstart in small: a few dozen scenes, a handful of steps. The
model learns just enough that some rewards differ, so that no gradient of RLVR is zero by accident.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from m2r_train.api.runspec import RunSpec

KILLED = -signal.SIGKILL
PATIENCE_SECONDS = 600.0  # a command takes seconds; this is for machines with other work

Manifests = dict[str, dict[str, Any]]  # by name


def _manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**spec, "resources": {"cpu": "1"}},
    }


def _from(kind: str, name: str, **more: str) -> dict[str, Any]:
    return {"from": {"kind": kind, "name": name}, **more}


def _evaluation(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    return _manifest(
        "EvalJob",
        name,
        model=dict(model),
        benchmarks=[{"name": "synthetic", "data": _from("DataSynthesisJob", "data", split="eval")}],
        generation={
            "engine": "inprocess",
            "samplesPerQuestion": 2,
            "maxCompletionTokens": 20,
            "batchSize": 3,
        },
    )


_ROOMS = {
    "tasks": ["RelationHorizontal"],  # the chains that are learnt first: rewards differ by step 12
    "scenes": 32,
    "questionsPerScene": 2,
    "imageSize": 64,
    "minObjects": 2,
    "maxObjects": 3,
}

_ALL: tuple[dict[str, Any], ...] = (
    _manifest(
        "DataSynthesisJob",
        "data",
        sources=[
            {"name": "rooms", "simulator": _ROOMS},
            {"name": "charts", "figures": {"tasks": ["BarChart"], "samples": 40, "imageSize": 64}},
        ],
        outputs={"sft": 60, "rlvr": 20, "eval": 12},
        shards=6,
    ),
    _manifest(
        "SFTJob",
        "sft",
        model={"preset": "tiny"},
        dataset=_from("DataSynthesisJob", "data", split="sft"),
        training={
            "steps": 12,
            "learningRate": 6.0e-3,
            "tokensPerBatch": 700,
            "warmupRatio": 0.0,
        },
        checkpoint={"everySteps": 3, "keep": 2},
    ),
    _manifest(
        "DataSynthesisJob",
        "curriculum",
        sources=[
            {
                "name": "questions",
                "dataset": _from("DataSynthesisJob", "data", split="rlvr"),
                "splits": ["rlvr"],
            }
        ],
        difficulty={
            "model": _from("SFTJob", "sft"),
            "rollouts": 2,
            "maxCompletionTokens": 20,
            "dropUnsolved": False,  # twelve steps teach nobody to solve much
            "dropSolved": False,
        },
        outputs={"sft": 0, "rlvr": 20, "eval": 0},
    ),
    _manifest(
        "RLVRJob",
        "rlvr",
        model=_from("SFTJob", "sft"),
        dataset=_from("DataSynthesisJob", "curriculum", split="rlvr"),
        steps=6,
        rollout={
            "engine": "inprocess",
            "groupSize": 4,
            "promptsPerStep": 4,
            "maxCompletionTokens": 20,
        },
        optimization={"learningRate": 3.0e-4, "warmupSteps": 1, "freezeVision": False},
        checkpoint={"everySteps": 2, "keep": 2},
    ),
    _evaluation("eval-base", {"preset": "tiny"}),
    _evaluation("eval-sft", _from("SFTJob", "sft")),
    _evaluation("eval-rlvr", _from("RLVRJob", "rlvr")),
)
NAMES = tuple(m["metadata"]["name"] for m in _ALL)
ONE_OF_EACH = ("data", "sft", "curriculum", "rlvr", "eval-rlvr")


def manifests(*names: str) -> Manifests:
    """Copies of the small manifests: all of them, or those named."""
    return {
        m["metadata"]["name"]: copy.deepcopy(m)
        for m in _ALL
        if not names or m["metadata"]["name"] in names
    }


def change(documents: Manifests, name: str, path: str, value: Any) -> Manifests:
    """The manifests with one field of one spec set: ``change(m, "sft", "training.steps", 9)``."""
    changed = copy.deepcopy(documents)
    *parents, last = path.split(".")
    at = changed[name]["spec"]
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = value
    return changed


def write(documents: Manifests, folder: Path) -> Path:
    """Writes each manifest into a file of its own; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr that are no progress: what a user is told about a mistake."""
        return [line for line in self.err.splitlines() if line.startswith("m2r: ")]


_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class M2R:
    """Starts ``m2r`` processes that share a cache and nothing of this user's own settings."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)
    patience: float = PATIENCE_SECONDS  # for a command that is run to its end

    def start(
        self,
        *arguments: str | int | Path,
        cwd: Path | None = None,
        largest_file: int | None = None,
        **env: str,
    ) -> Process:
        """Starts ``python -m m2r_train ARGUMENTS``; ``largest_file`` bytes are all it may write."""
        command = [sys.executable, "-m", "m2r_train", *map(str, arguments)]
        if largest_file is not None:
            command = [sys.executable, "-c", _LIMITED, str(largest_file), *command]
        process = Process(command, self._env(env), cwd)
        self.started.append(process)
        return process

    def kill_all(self) -> None:
        """Kills what still runs, stopped processes too: after a test that has failed."""
        for process in self.started:
            process.kill()

    def __call__(
        self,
        *arguments: str | int | Path,
        cwd: Path | None = None,
        largest_file: int | None = None,
        **env: str,
    ) -> Done:
        """Runs ``python -m m2r_train ARGUMENTS`` to its end."""
        return self.start(*arguments, cwd=cwd, largest_file=largest_file, **env).wait(self.patience)

    def _env(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("M2R_", "AWS_"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "M2R_CACHE": str(self.home / "cache"),
            "M2R_TERMINATION_LOG": str(self.home / "termination-log"),
            "OMP_NUM_THREADS": "1",
            **self.env,
            **more,
        }


class Process:
    """A running command: its stderr is read while it runs, so that a test can wait for a line."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._begun = time.monotonic()
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._popen = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, as a terminal gives it
        )
        self._out: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_err, daemon=True),
            threading.Thread(target=self._read_out, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_err(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _read_out(self) -> None:
        assert self._popen.stdout is not None
        self._out.extend(self._popen.stdout)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._popen.poll() is None

    def until(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> bool:
        """Waits for a line of stderr that ``pattern`` is found in; False if the process ended."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                if any(re.search(pattern, line) for line in self._lines):
                    return True
                if not self._readers[0].is_alive():
                    return False
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no {pattern!r} in:\n{''.join(self._lines)}")
                self._changed.wait(0.2)

    def when(self, seen: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        """Waits until ``seen()``; False if the process ended before."""
        deadline = time.monotonic() + seconds
        while not seen():
            if not self.running:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not come; stderr:\n{''.join(self._lines)}")
            time.sleep(0.01)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.running:
            self._popen.send_signal(number)

    def give_way(self) -> Process:
        """Takes only what processor time others leave, from now on."""
        os.setpriority(os.PRIO_PROCESS, self._popen.pid, 19)
        return self

    def catches(self, number: signal.Signals) -> bool:
        """Whether the process has a handler for the signal by now."""
        try:
            status = Path(f"/proc/{self._popen.pid}/status").read_text()
        except FileNotFoundError:
            return False
        mask = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.M)
        return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)

    def stop(self) -> None:
        """SIGSTOP, until every thread has stopped: the signal alone takes its time."""
        self.signal(signal.SIGSTOP)
        self.when(lambda: _states_of(self._popen.pid) <= {"T"})

    def ctrl_c(self) -> None:
        """SIGINT to the process and its children, as a terminal sends it."""
        if self.running:
            os.killpg(self._popen.pid, signal.SIGINT)

    @property
    def children(self) -> list[int]:
        """Processes of its group that are alive, itself left out."""
        own = self._popen.pid
        return [pid for pid in _processes_of(own) if pid != own]

    def kill(self) -> None:
        """Kills the process and its children, unless they have ended."""
        for pid in _processes_of(self._popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> Done:
        """Waits for the end."""
        try:
            code = self._popen.wait(seconds)
        except BaseException as error:  # whatever interrupts the test: leave nothing behind
            self.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                shown = "".join(self._lines)
                raise TimeoutError(f"still running; stderr:\n{shown}") from None
            raise
        for reader in self._readers:
            reader.join(10)
        took = time.monotonic() - self._begun
        return Done(code, "".join(self._out), "".join(self._lines), took)


def _states_of(pid: int) -> set[str]:
    """The states of a process's threads, as letters; none if it has ended."""
    found = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended while we looked
            found.add(stat.read_text().rpartition(")")[2].split()[0])
    return found


def _processes_of(group: int) -> list[int]:
    """Processes of a group, those that have ended but were not waited for left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):  # ended while we looked
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


@dataclass(frozen=True)
class Golden:
    """An undisturbed run of a set of manifests, and where each of its resources lies."""

    uri: str
    summary: dict[str, Any]
    done: Done
    endpoint: str | None = None

    def resource(self, name: str) -> dict[str, Any]:
        """One resource of the summary."""
        return next(dict(r) for r in self.summary["resources"] if r["name"] == name)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each resource's result, by name."""
        return {r["name"]: r["digest"] for r in self.summary["resources"]}

    def seconds(self, name: str) -> float:
        """How long a stage took from its first line to its last, as its last line says."""
        took = re.search(rf"/{name}  done in (\d+)s", self.done.err)
        assert took is not None, self.done.err
        return float(took[1])

    def folder(self, name: str) -> Path:
        """The run's folder, on this machine (``file://`` stores only)."""
        output = self.resource(name)["output"]
        return Path(output.removeprefix("file://")).parent


def run(
    m2r: M2R,
    files: Path,
    uri: str,
    *more: str,
    endpoint: str | None = None,
    cwd: Path | None = None,
) -> Golden:
    """``m2r run`` to a good end, with its summary."""
    summary = m2r.home / f"summary-{time.monotonic_ns()}.json"
    options = [*more, *(("--endpoint", endpoint) if endpoint else ())]
    done = m2r("run", "-f", files, "--store", uri, "--summary", summary, *options, cwd=cwd)
    assert done.code == 0, done.err
    return Golden(uri, json.loads(summary.read_text()), done, endpoint)


def stage_file(golden: Golden, name: str, store: Path, path: Path) -> RunSpec:
    """Writes the run spec of a resource as the operator would mount it: same inputs, other store.

    Inputs stay where the golden run has put them, so the stage alone is computed again.
    """
    spec = RunSpec.load(golden.folder(name) / "spec.json")
    moved = spec.model_copy(
        update={"storage": spec.storage.model_copy(update={"uri": store.as_uri()})}
    )
    path.write_text(moved.to_json())
    return moved


def files_under(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path, without the store's own lock files."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".m2r-")
    }
