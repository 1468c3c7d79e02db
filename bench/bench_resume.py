"""What kills cost: random deaths in every stage, results compared bit for bit with a golden run.

    python bench/bench_resume.py [--kills 50] [--seed 0] [--json FILE]
        [--stages rlvr sft] [--set rlvr:rollout.engine=vllm sft:resources.processesPerNode=2]

At a random instant the process that the stage was started with is killed, at a named point the one
that comes there first; where they are several ranks, the others have to end with it. ``--set``
changes the manifests, so that other engines and settings can be tried. A save goes on in a thread
while training does, so that a point inside it kills training wherever it is by then.

Each trial computes one stage of the small manifests (``tests/runs.py``) in a store of its own and
kills it up to five times: at a random instant of the computed part, or at a named point inside a
save, an upload or a commit. Then it may end, and its digest and its history must be those of the
golden run.

"Lost steps" are those that a killed attempt had done by its last ``/status`` and the next one does
again: since the last commit, or for synthesis and evaluation what was not in the journal yet.
"Paid twice" counts rollouts, shards and answers that were made again although an earlier attempt
had kept them. Exits with 1 if any result differs or anything was paid twice.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import yaml  # noqa: E402
from runs import (  # noqa: E402 - the tests' helpers are no package
    KILLED,
    M2R,
    ONE_OF_EACH,
    Golden,
    change,
    files_under,
    manifests,
    run,
    stage_file,
    write,
)
from s3server import free_port  # noqa: E402

from m2r_train.core.rng import derive_seed  # noqa: E402
from m2r_train.store import read_head  # noqa: E402
from m2r_train.store.local import LocalStore  # noqa: E402

TRAINING = ("sft", "rlvr")
STAGES = {"data": "synthesis", "sft": "SFT", "rlvr": "RLVR", "eval-rlvr": "evaluation"}
MOST_IN_A_RUN = 5
OF_A_RANK = 128 + signal.SIGKILL  # told by the process that started the ranks
NAMED_SHARE = 0.4  # of the kills are at named points, the others at random instants
SAVING = (
    "before-journal",
    "before-save",
    "after-snapshot",
    "before-file",
    "before-manifest",
    "after-manifest",
    "before-head",
    "after-head",
    "before-prune-head",
    "before-delete",
    "after-save",
    "before-publish",
    "before-upload",
    "before-result-manifest",
    "before-finish",
)
WORKING = (
    "before-journal",
    "before-publish",
    "before-upload",
    "before-result-manifest",
    "before-finish",
)


@dataclass
class Tally:
    """One stage's row of the table."""

    kills: int = 0
    runs: int = 0
    identical: int = 0
    paid_twice: int = 0
    lost: list[int] = field(default_factory=list)
    restart_seconds: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        """A line of the Markdown table."""
        lost = f"{fmean(self.lost):.2f}" if self.lost else "-"
        restart = f"{fmean(self.restart_seconds):.1f}" if self.restart_seconds else "-"
        return (
            f"| {name} | {self.kills} | {self.runs} | {self.identical} | {lost} "
            f"| {self.paid_twice} | {restart} |"
        )


@dataclass
class Trial:
    """A stage in a store of its own: killed, started again, ended."""

    m2r: M2R
    golden: Golden
    name: str
    home: Path
    tally: Tally
    kept: dict[str, int] = field(default_factory=dict)  # journal key -> epoch that wrote it
    seen_step: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.spec = stage_file(self.golden, self.name, self.home / "store", self.home / "spec.json")
        self.folder = self.home / "store" / self.spec.run_prefix

    def attempt(self, random: Random | None) -> bool:
        """Runs the stage, and kills it if ``random`` is given; whether it has ended by itself."""
        named = random is not None and random.random() < NAMED_SHARE
        env = {"M2R_KILL_AT": self._point(random)} if named and random else {}
        port = free_port()
        spec = self.home / "spec.json"
        started = time.monotonic()
        process = self.m2r.start("stage", "--spec", spec, "--port", port, **env)
        if process.until(r"  started  "):
            if self.tally.kills:
                self.tally.restart_seconds.append(time.monotonic() - started)
            instant = float("inf")
            if random is not None and not named:
                span = max(0.5, self.golden.seconds(self.name))
                instant = time.monotonic() + random.uniform(0.0, span)
            process.when(lambda: self._looked(port, until=instant))
            if random is not None and not named:
                process.signal(signal.SIGKILL)
        done = process.wait()
        if done.code in (KILLED, OF_A_RANK):
            self.tally.kills += 1
            self.tally.lost.append(max(0, self.seen_step - self._kept_steps()))
        elif done.code != 0:
            raise SystemExit(f"{self.name}: exit code {done.code}\n{done.err}")
        self._look_into_the_journal()
        return done.code == 0

    def _looked(self, port: int, *, until: float) -> bool:
        """Whether it is ``until`` yet; notes the step that ``/status`` tells."""
        with (
            contextlib.suppress(OSError, http.client.HTTPException),  # it may end while it answers
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=1) as reply,
        ):
            self.seen_step = json.load(reply)["step"]
        return time.monotonic() >= until

    def identical(self) -> bool:
        """Whether the ended run is the golden one, bit for bit."""
        head, golden = read_head(LocalStore(self.folder)), self.golden.folder(self.name)
        history = "records/history.jsonl"
        return (
            head is not None
            and head.result is not None
            and head.result["digest"] == self.golden.digests[self.name]
            and all(
                files_under(self.folder / part) == files_under(golden / part)
                for part in ("model", "dataset", "eval")
            )
            and (
                not (golden / history).exists()
                or (self.folder / history).read_bytes() == (golden / history).read_bytes()
            )
        )

    def _point(self, random: Random) -> str:
        points = list(SAVING if self.name in TRAINING else WORKING)
        if self.name == "sft":
            points.remove("before-journal")
        return f"{random.choice(points)}:{random.randint(1, 3)}"

    def _kept_steps(self) -> int:
        """Steps that no later attempt computes again."""
        if self.name in TRAINING:
            head = read_head(LocalStore(self.folder))
            return 0 if head is None else head.step
        if any((self.folder / part / "MANIFEST.json").exists() for part in ("dataset", "eval")):
            return self.seen_step
        return len({file.parent.name for file in (self.folder / "journal").glob("e*/s*/*")})

    def _look_into_the_journal(self) -> None:
        for file in (self.folder / "journal").glob("e*/s*/*"):
            if file.name.startswith(".m2r-"):
                continue
            epoch, _, key = file.relative_to(self.folder / "journal").as_posix().partition("/")
            number = int(epoch.removeprefix("e"))
            if self.kept.setdefault(key, number) != number:
                self.tally.paid_twice += 1
                self.kept[key] = number


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills in all (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of instants and points (default: 0)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME:PATH=VALUE")
    args = parser.parse_args()
    tallies = {name: Tally() for name in args.stages}
    each, more = divmod(args.kills, len(tallies))
    share = {name: each + (i < more) for i, name in enumerate(tallies)}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="m2r-bench-resume-") as folder:
        home = Path(folder)
        m2r = M2R(home)
        documents = manifests(*ONE_OF_EACH)
        for assignment in args.set:
            field, _, value = assignment.partition("=")
            name, _, path = field.partition(":")
            documents = change(documents, name, path, yaml.safe_load(value))
        files = write(documents, home / "manifests")
        golden = run(m2r, files, (home / "golden").as_uri())
        for name, tally in tallies.items():
            random = Random(derive_seed(args.seed, "bench-resume", name))
            while tally.kills < share[name]:
                trial = Trial(m2r, golden, name, home / f"{name}-{tally.runs}", tally)
                most = min(MOST_IN_A_RUN, share[name] - tally.kills)
                ended = False
                goal = tally.kills + most
                while tally.kills < goal and not ended:
                    ended = trial.attempt(random)
                if not ended:
                    trial.attempt(None)
                tally.runs += 1
                same = trial.identical()
                tally.identical += same
                verdict = "identical" if same else f"DIFFERENT, see {trial.folder}"
                print(f"{name}: {tally.kills}/{share[name]} kills, {verdict}", flush=True)
    print(
        f"\n{args.kills} kills, seed {args.seed}, {time.monotonic() - begun:.0f} s\n\n"
        "| stage | kills | runs | identical | lost steps a kill | paid twice "
        "| seconds until it goes on |\n|---|---|---|---|---|---|---|"
    )
    for name, tally in tallies.items():
        print(tally.row(STAGES[name]))
    if args.json:
        figures = {name: {**vars(tally)} for name, tally in tallies.items()}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    good = all(t.identical == t.runs and not t.paid_twice for t in tallies.values())
    print("\nall results are identical" if good else "\nRESULTS DIFFER")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
