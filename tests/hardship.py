"""A synthesis job of several pods under everything at once: S3 errors, kills, a bad teacher.

Half of the samples are drawn, half are a dataset's questions that an endpoint teaches and judges.
Pods are processes with an Indexed Job's index; they are started again when they die.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
from runs import KILLED, M2R, Process
from s3server import Server

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved

OWNER_DIES_AT = ("before-journal:2", "before-upload:1", "before-result-manifest:1")
HELPER_DIES_AT = ("before-journal:1",)
PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Made:
    """What came out: bytes and counts, and how many lives it took."""

    digest: str
    manifest: dict[str, Any]
    ids: tuple[str, ...]
    deaths: int


@dataclass(frozen=True)
class Job:
    """``samples`` in ``shards`` of each kind of work, shared by ``nodes`` pods."""

    home: Path
    samples: int
    shards: int
    nodes: int

    @property
    def own(self) -> Path:
        """The dataset's folder."""
        return self.home / "own"

    def write_questions(self) -> None:
        """Sums, each of them once."""
        self.own.mkdir(parents=True)
        with (self.own / "sums.jsonl").open("w") as file:
            for a in range(self.samples - self.samples // 2):
                row = {"id": f"q{a}", "question": f"What is {a} + 7?", "answer": str(a + 7)}
                file.write(json.dumps(row) + "\n")

    def spec(self, uri: str, store: str, teacher: str) -> RunSpec:
        """The run at ``uri``, whose S3 server and teacher answer at these addresses."""
        endpoint = {"url": teacher, "model": "m", "timeoutSeconds": 2, "retries": 20}
        drawn = {"tasks": ["Arithmetic"], "samples": self.samples // 2, "imageSize": 32}
        spec = DataSynthesisSpec.model_validate(
            {
                "sources": [
                    {"name": "drawn", "figures": drawn, "splits": ["rlvr", "eval"]},
                    {"name": "own", "dataset": {"uri": self.own.as_uri()}},
                ],
                "generator": {"endpoint": endpoint, "chainsPerQuestion": 1},
                "quality": {"judge": {"endpoint": endpoint}},
                "outputs": {"sft": self.samples // 8, "rlvr": self.samples // 2},
                "shards": self.shards,
                "resources": {"nodes": self.nodes, "cpu": 1},
            }
        )
        return RunSpec(
            kind="DataSynthesisJob",
            metadata=RunMetadata(name="data", uid="0123456789abcdef"),
            storage=RunStorage(uri=uri, endpoint=store, region="us-east-1"),
            seed=0,
            spec=resolved(spec),
            inputs={"sources[1].dataset": RunInput(uri=self.own.as_uri())},
        )

    def carry(self, m2r: M2R, s3: Server, spec: RunSpec, *, die: bool, kills: int = 0) -> Made:
        """All pods to the end. ``die``: at named points; ``kills``: so many at random instants."""
        file = self.home / f"{spec.storage.uri.rpartition('/')[2]}.json"
        file.write_text(spec.to_json())
        ways = [list(OWNER_DIES_AT), *(list(HELPER_DIES_AT) for _ in range(self.nodes - 1))]
        pods: dict[int, Process] = {}
        random, deaths, next_kill = Random(0), 0, time.monotonic() + 3.0

        def start(index: int) -> Process:
            env = {"M2R_KILL_AT": ways[index].pop(0)} if die and ways[index] else {}
            log = str(file.with_suffix(f".{index}.log"))
            named = {"JOB_COMPLETION_INDEX": str(index), "M2R_TERMINATION_LOG": log}
            return m2r.start("stage", "--spec", file, "--port", 0, **named, **s3.env, **env)

        open_ones = set(range(self.nodes))
        pods.update({index: start(index) for index in range(self.nodes)})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while open_ones:
            assert time.monotonic() < deadline, f"pods {open_ones} do not end"
            time.sleep(0.05)
            if kills and time.monotonic() > next_kill:
                pods[random.choice(sorted(open_ones))].kill()
                kills, next_kill = kills - 1, time.monotonic() + random.uniform(1.0, 6.0)
            for index in sorted(open_ones):
                if pods[index].running:
                    continue
                done = pods[index].wait()
                if done.code == 0:
                    open_ones.discard(index)
                    continue
                assert done.code == KILLED, done.err
                deaths += 1
                pods[index] = start(index)
        return self._made(s3, spec, file.with_suffix(".0.log"), deaths)

    def _made(self, s3: Server, spec: RunSpec, log: Path, deaths: int) -> Made:
        outcome = json.loads(log.read_text())["outputs"]
        bucket = spec.storage.uri.removeprefix("s3://")
        folder = s3.root / bucket / spec.run_prefix / "dataset"
        ids: list[str] = []
        for path in sorted(folder.glob("*/*.parquet")):
            table = pq.read_table(io.BytesIO(path.read_bytes()), columns=["id"])
            ids += table.column("id").to_pylist()
        manifest = json.loads((folder / "manifest.json").read_text())
        return Made(outcome["digest"], manifest, tuple(ids), deaths)

    def faults(self, made: Made) -> list[str]:
        """What does not add up: lost, doubled or uncounted samples and chains."""
        manifest, out = made.manifest, []
        drawn, own = (manifest["sources"][name] for name in ("drawn", "own"))
        taught = self.samples - self.samples // 2
        chains, questions = (manifest["teaching"][what] for what in ("chains", "questions"))
        dropped = sum(manifest["dropped"].values())
        checks = {
            "samples made": (drawn["made"] + own["made"], self.samples),
            "drawn, by outcome": (sum(drawn.values()) - drawn["made"], drawn["made"]),
            "own, by outcome": (sum(own.values()) - own["made"], own["made"]),
            "questions asked": (questions["asked"], taught),
            "questions, by outcome": (sum(questions.values()) - questions["asked"], taught),
            "chains written": (chains["written"], taught),
            "chains, by outcome": (sum(chains.values()) - chains["written"], chains["written"]),
            "samples in files": (
                len(made.ids),
                sum(split["samples"] for split in manifest["splits"].values()),
            ),
            "ids that occur once": (len(set(made.ids)), len(made.ids)),
            "asked for": (len(made.ids), self.samples // 8 + self.samples // 2),
        }
        out += [f"{what}: {a} is not {b}" for what, (a, b) in checks.items() if a != b]
        if len(made.ids) + dropped > self.samples:
            out.append(f"{len(made.ids)} kept and {dropped} dropped of {self.samples}")
        return out
