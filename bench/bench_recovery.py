"""What a disruption costs on a cluster: pods taken away, seconds until the next committed step.

    python bench/bench_recovery.py [--blows 24] [--json FILE]

One RLVR run of the small manifests (``tests/blows.py``) with the real trainer image on a real node
(``make cluster-up``, or a new one; the operator is a process of this machine). In turn it is
preempted, evicted, drained, deleted, killed and starved of memory, each time in mid-step and with a
finished step that no checkpoint holds yet; steps take about a second, a checkpoint is made at
every second one. No image is pulled: it is on the node.

"Recovery" is from when the API server says that the pod has ended, and its node has room again
where something else took that (preemption, drain), until the store's HEAD names a further step.
The kubelet says so one to two seconds after a process was killed; the pause of a second that the
manifest asks for after a crash counts from its death, and is mostly over by then. "Decision" is
from when the pod has ended until the next Job is there; "start" is the scheduler, the kubelet and
containerd; "claim" is Python and the first look into the store; "work" is torch, the model, the
state, and the steps up to the next checkpoint.

Exits with 1 when a committed step was lost or the result is not that of ``m2r run``, bit for bit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "operator"), str(ROOT / "tests"), str(ROOT / "tools")]

from blows import BLOWS, RLVR, Blow, Diary, Recovery, family, strike  # noqa: E402 - no package
from cluster import Cluster, ClusterError, connect, down, up  # noqa: E402
from lab import Lab, lab  # noqa: E402
from runs import M2R, Manifests, run, write  # noqa: E402

from images import build  # noqa: E402

STEPS_A_BLOW = 3  # at most: the one that is lost, the one that was saved, the next
PARTS: dict[str, Callable[[Recovery], float]] = {
    "decision": lambda r: r.decided,
    "start": lambda r: r.running - max(0.0, r.decided - r.away),
    "claim": lambda r: r.claimed - r.running,
    "work": lambda r: r.total - r.claimed,
}


def row(name: str, seconds: Sequence[float]) -> str:
    """A line of the Markdown table."""
    high = sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
    figures = (min(seconds), median(seconds), high, max(seconds))
    return f"| {name} | {len(seconds)} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"


def tables(recoveries: Sequence[Recovery]) -> Iterator[str]:
    """The page's tables."""
    header = "| n | lowest | median | p95 | highest |\n|---|---|---|---|---|---|"
    yield f"| recovery, s {header}"
    yield row("all", [r.total for r in recoveries])
    for blow in BLOWS:
        if its := [r.total for r in recoveries if r.blow is blow]:
            yield row(blow.name, its)
    yield f"\n| of which, s {header}"
    for kills, words in ((False, ""), (True, ", after a crash")):
        if its := [r.decided for r in recoveries if r.blow.kills is kills]:
            yield row(f"decision{words}", its)
    for name, part in [*PARTS.items()][1:]:
        yield row(name, [part(r) for r in recoveries])


@contextmanager
def node() -> Iterator[Cluster]:
    """The running node, else one for the time of the block."""
    try:
        found = connect()
    except ClusterError:
        found = up()
    try:
        yield found
    finally:
        if found.started:
            down()


@contextmanager
def namespace(cluster: Cluster) -> Iterator[str]:
    """One of its own, with the definitions of this tree."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    name = f"recovery-{uuid.uuid4().hex[:6]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        cluster.delete("namespace", name)


def struck(room: Lab, documents: Manifests, blows: Sequence[Blow]) -> tuple[list[Recovery], Diary]:
    """The run's recoveries, and what was seen of it, to its end."""
    room.apply(*(documents[name] for name in ("data", "sft", "curriculum", "rlvr")))
    room.until_phase("DataSynthesisJob", "curriculum", "Succeeded", seconds=400)
    found = []
    with Diary(room, RLVR, "rlvr") as diary:
        for number, blow in enumerate(blows, start=1):
            found.append(strike(room, diary, blow))
            seconds = f"{found[-1].total:.1f} s (decision {found[-1].decided:.2f} s)"
            print(f"{number}/{len(blows)} {blow.name}: {seconds}", flush=True)
        room.until_phase(RLVR, "rlvr", "Succeeded", seconds=600)
    return found, diary


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blows", type=int, default=24, help="disruptions in all (default: 24)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    blows = list(itertools.islice(itertools.cycle(BLOWS), args.blows))
    documents = family(STEPS_A_BLOW * args.blows + 2)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="m2r-bench-recovery-") as folder, node() as cluster:
        home = Path(folder)
        files = write({n: documents[n] for n in documents if n != "eval-rlvr"}, home / "manifests")
        golden = run(M2R(home), files, (home / "store").as_uri())
        image = build("trainer-cpu")
        if image.reference not in cluster.images():
            cluster.import_image(image.archive)
        with namespace(cluster) as name, lab(cluster, name, home, image.short) as room:
            recoveries, diary = struck(room, documents, blows)
            digest = room.status(RLVR, "rlvr")["outputs"]["digest"]
    print(f"\n{args.blows} disruptions, {time.monotonic() - begun:.0f} s\n")
    print("\n".join(tables(recoveries)))
    heads = [head["step"] for head in diary.heads]
    resumed = {r.attempt: diary.resumed()[r.attempt + 1] for r in recoveries}
    kept = heads == sorted(heads)
    kept &= all(resumed[r.attempt]["step"] == r.committed for r in recoveries)
    saved = all(resumed[r.attempt]["lostSteps"] == 0 for r in recoveries if not r.blow.kills)
    same = digest == golden.digests["rlvr"]
    print(f"\nno committed step was lost: {kept}; who was asked to stop lost no step: {saved}")
    print(f"the result is that of m2r run, bit for bit: {same}")
    if args.json:
        figures = [{**vars(r), "blow": r.blow.name} for r in recoveries]
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if kept and saved and same else 1


if __name__ == "__main__":
    sys.exit(main())
