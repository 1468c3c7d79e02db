"""What a checkpoint costs the training: the part that it waits for, against a copy and a store.

    python bench/bench_checkpoint.py [--gib 1] [--rounds 9] [--slow-mib 64] [--slow-rounds 5]

Two comparisons, each interleaved round by round in one process:

- **copy**: a save of a state of ``--gib`` against a plain copy of the same tensors into tensors
  that are there already. The save goes into a store on this disk, and the next round begins once
  it is committed. Bound: at most 1.2 times the copy.
- **store**: the same of a state of ``--slow-mib`` through the tests' S3 server behind a line of
  20 MB/s, against serialising and committing while training waits. Bound: at least 50 times less.

The state has the shapes of a language model with AdamW's moments in float32. The first save, which
has to get its memory, is shown apart. Prints Markdown; exits with 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from s3server import s3_server  # noqa: E402 - the tests' helpers are no package
from safetensors.torch import save as serialise  # noqa: E402
from torch import Tensor  # noqa: E402

from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved  # noqa: E402
from m2r_train.api.sft import SFTSpec  # noqa: E402
from m2r_train.stages.context import Context  # noqa: E402
from m2r_train.store import ObjectStore, Run, open_store  # noqa: E402
from m2r_train.telemetry.metrics import MetricSet  # noqa: E402
from m2r_train.telemetry.progress import Progress  # noqa: E402

MOST_OF_COPY = 1.2
TIMES_LESS = 50.0
LINE = 20e6  # bytes a second
WIDTH = 1024
KEEP = 1


def state_of(size: int) -> dict[str, Tensor]:
    """About ``size`` bytes: matrices and vectors, each with two moments and a count."""
    matrix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    layers = max(1, size // (3 * matrix.nbytes))
    state: dict[str, Tensor] = {}
    for layer in range(layers):
        for part in ("param", "adam_m", "adam_v"):
            state[f"{part}/layers.{layer}.weight"] = matrix + layer
            state[f"{part}/layers.{layer}.norm"] = torch.ones(WIDTH)
        state[f"adam_t/layers.{layer}.weight"] = torch.ones(1)
    return state


def context(store: ObjectStore, name: str) -> Context:
    """An attempt at a run in ``store``, as a stage would be given it."""
    spec = SFTSpec.model_validate({"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}})
    run_spec = RunSpec(
        kind="SFTJob",
        metadata=RunMetadata(name=name, uid="0" * 16),
        storage=RunStorage(uri="file:///unused"),
        seed=0,
        spec=resolved(spec),
    )
    return Context(
        run_spec=run_spec,
        run=Run.claim(store.under(name), 1),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=Path("unused"),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Blocking:
    """Saves of one state, one step after the other; ``save`` is what training waits for."""

    def __init__(self, store: ObjectStore, state: Mapping[str, Tensor]) -> None:
        self.ctx, self.state, self.step = context(store, "background"), state, 0

    def save(self) -> None:
        """The part that blocks."""
        self.step += 1
        self.ctx.saver.save(self.step, lambda: self.state, KEEP)

    def commit(self) -> None:
        """The rest, which training does not wait for."""
        self.ctx.saver.settle()


class Waiting:
    """The same while training waits: serialise, commit, prune."""

    def __init__(self, store: ObjectStore, state: Mapping[str, Tensor]) -> None:
        self.run, self.state, self.step = context(store, "waiting").owned, state, 0

    def save(self) -> None:
        """All of it."""
        self.step += 1
        self.run.commit(self.step, {"state.safetensors": serialise(dict(self.state))})
        self.run.journal_clear(self.step)
        self.run.prune(KEEP)


def against_copy(
    state: Mapping[str, Tensor], rounds: int
) -> tuple[list[float], list[float], float]:
    """Seconds of copies and of saves, round by round, and those of the first save."""
    place = {name: tensor.clone() for name, tensor in state.items()}

    def copy() -> None:
        for name, tensor in state.items():
            place[name].copy_(tensor)

    copies, saves = [], []
    with tempfile.TemporaryDirectory(prefix="m2r-bench-checkpoint-") as folder:
        ours = Blocking(open_store(Path(folder).as_uri()), state)
        first = seconds(ours.save)
        ours.commit()
        for _ in range(rounds):
            copies.append(seconds(copy))
            saves.append(seconds(ours.save))
            ours.commit()
    return copies, saves, first


def against_store(
    state: Mapping[str, Tensor], rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of waiting saves, of blocking parts, and of the rest of those, round by round."""
    waits, saves, rest = [], [], []
    with s3_server() as server, slow_line(server.endpoint) as endpoint:
        os.environ.update(server.env)
        store = open_store(server.make_bucket("checkpoints"), endpoint=endpoint)
        ours, theirs = Blocking(store, state), Waiting(store, state)
        ours.save()
        ours.commit()
        for _ in range(rounds):
            waits.append(seconds(theirs.save))
            saves.append(seconds(ours.save))
            rest.append(seconds(ours.commit))
    return waits, saves, rest


@contextlib.contextmanager
def slow_line(target: str) -> Iterator[str]:
    """An endpoint in front of ``target`` that takes ``LINE`` bytes a second from all clients."""
    listener = socket.create_server(("127.0.0.1", 0))
    where = urlsplit(target)
    turn, free_at = threading.Lock(), [0.0]

    def pass_on(source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if slow:
                    with turn:
                        free_at[0] = max(free_at[0], time.monotonic()) + len(data) / LINE
                        pause = free_at[0] - time.monotonic()
                    time.sleep(max(0.0, pause))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection((where.hostname or "", where.port or 80))
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def row(name: str, values: Sequence[float]) -> str:
    """A line of the table, in milliseconds."""
    low, middle, high = (f"{1000 * f(values):.1f}" for f in (min, median, max))
    return f"| {name} | {low} | {middle} | {high} |"


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="state of the copy (default: 1)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slow-mib", type=float, default=64.0, help="state of the store")
    parser.add_argument("--slow-rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = "\n| milliseconds | minimum | median | maximum |\n|---|---|---|---|"

    state = state_of(int(args.gib * 2**30))
    size = sum(tensor.nbytes for tensor in state.values())
    copies, saves, first = against_copy(state, args.rounds)
    of_copy = median(ours / copy for ours, copy in zip(saves, copies, strict=True))
    print(f"State of {size / 2**20:.0f} MiB in {len(state)} tensors, {args.threads} thread(s).")
    print(f"{table}\n{row('copy of the tensors', copies)}\n{row('blocking part', saves)}")
    print(f"\nThe first save, which gets its memory: {1000 * first:.0f} ms.")
    print(f"Blocking part over copy, median of {args.rounds}: {of_copy:.2f} (at most 1.2).\n")
    del state

    state = state_of(int(args.slow_mib * 2**20))
    size = sum(tensor.nbytes for tensor in state.values())
    waits, saves, rest = against_store(state, args.slow_rounds)
    less = median(wait / ours for ours, wait in zip(saves, waits, strict=True))
    print(f"State of {size / 2**20:.0f} MiB, S3 behind a line of {LINE / 1e6:.0f} MB/s.")
    print(f"{table}\n{row('save that training waits for', waits)}\n{row('blocking part', saves)}")
    print(row("its commit, in the background", rest))
    print(f"\nTimes less, median of {args.slow_rounds}: {less:.0f} (at least {TIMES_LESS:.0f}).")
    return 0 if of_copy <= MOST_OF_COPY and less >= TIMES_LESS else 1


if __name__ == "__main__":
    sys.exit(main())
