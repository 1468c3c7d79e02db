"""One thread for each resource that is followed, and a loop that shows what they tell."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from m2r_train.api import KINDS, load_manifests
from m2r_train.api.errors import ConfigError, SpecError
from m2r_train.api.resource import Resource
from m2r_train.clusterwatch.access import EVENTS, connect
from m2r_train.clusterwatch.board import Board, RunKey
from m2r_train.clusterwatch.following import Change, Follower, Source
from m2r_train.clusterwatch.showing import Screen

TICK: Final = 1.0  # seconds between two looks at a table whose ages go on
SUCCEEDED, NOT_SUCCEEDED = 0, 1


class Sources(Protocol):
    """A cluster's resources."""

    def source(self, kind: str, namespace: str | None) -> Source:
        """A kind, in a namespace or in all."""
        ...


@dataclass(frozen=True, slots=True)
class _News:
    """What a follower tells: a change, or what ended it."""

    kind: str
    change: Change | None = None
    end: Exception | None = None


@dataclass(slots=True)
class _View:
    """The board, and what of it is known to be out of date."""

    board: Board
    listed: set[str] = field(default_factory=set)
    away: dict[str, str] = field(default_factory=dict)

    def take(self, news: _News) -> None:
        """Raises what ended a follower of runs; without events there is merely less to show."""
        if news.end is not None:
            if news.kind != EVENTS or not isinstance(news.end, ConfigError):
                raise news.end
            return
        change = news.change
        assert change is not None
        if change.what == "lost":
            self.away[news.kind] = change.words
        elif change.what == "back":
            self.away.pop(news.kind, None)
        elif news.kind == EVENTS:
            for body in change.objects if change.what != "remove" else ():
                self.board.tell(body)
        elif change.what == "all":
            self.listed.add(news.kind)
            self.board.replace(news.kind, change.objects)
        else:
            (body,) = change.objects
            (self.board.put if change.what == "put" else self.board.remove)(body)

    @property
    def whole(self) -> bool:
        """Whether every kind has been listed."""
        return self.listed >= set(KINDS)

    @property
    def trouble(self) -> str:
        """Why what is shown may be old."""
        return f"{next(iter(self.away.values()))}; trying again" if self.away else ""


def watch(
    files: Sequence[Path],
    *,
    namespace: str | None,
    all_namespaces: bool,
    kubeconfig: Path | None,
    context: str | None,
    until_done: bool,
) -> int:
    """Show a cluster's runs until Ctrl-C, or until all are at their end; returns the exit code.

    ``files``: manifests of the runs; none: all of the namespace (default: the context's).
    Raises SpecError for manifests and options that do not go together, ConfigError where the
    cluster cannot be asked, KeyboardInterrupt.
    """
    if namespace is not None and all_namespaces:
        raise SpecError("--namespace and --all-namespaces exclude each other; leave out one")
    resources = load_manifests(files) if files else []
    cluster = connect(kubeconfig, context)
    within = None if all_namespaces else namespace or cluster.namespace
    keys = tuple(_key(resource, namespace, cluster.namespace) for resource in resources)
    if keys:
        spaces = {key.namespace for key in keys}
        within = spaces.pop() if len(spaces) == 1 else None
    place = f"namespace {within}" if within is not None else "all namespaces"
    title = f"{len(keys)} runs in {place}" if keys else f"Runs in {place}"
    screen = Screen(f"{title} (Ctrl-C ends; nothing is changed)", namespaces=within is None)
    return show(cluster, within, Board(keys), screen, until_done=until_done)


def _key(resource: Resource, namespace: str | None, default: str) -> RunKey:
    """Which run a manifest is in the cluster, as kubectl would apply it."""
    own = resource.namespace if "namespace" in resource.job.metadata.model_fields_set else None
    if own is not None and namespace is not None and own != namespace:
        raise SpecError(
            f"{resource.where}: metadata.namespace: is {own} and --namespace says {namespace}; "
            "leave out one"
        )
    return RunKey(own or namespace or default, resource.kind, resource.name)


def show(
    cluster: Sources,
    namespace: str | None,
    board: Board,
    screen: Screen,
    *,
    until_done: bool,
) -> int:
    """`watch`, once logged in."""
    inbox: queue.Queue[_News] = queue.Queue()
    stop = threading.Event()
    for kind in (*KINDS, EVENTS):
        _start(kind, cluster.source(kind, namespace), inbox, stop)
    view = _View(board)
    try:
        with screen.open():
            while True:
                _take_all(inbox, view, timeout=TICK if screen.is_live else None)
                if view.whole or view.trouble:
                    rows = board.rows() if view.whole else []
                    screen.show(rows, view.trouble, datetime.now(UTC))
                if until_done and view.whole and (code := _ended(board, namespace)) is not None:
                    return code
    finally:
        stop.set()


def _ended(board: Board, namespace: str | None) -> int | None:
    """The exit code, once all runs are at their end."""
    if board.all_done():
        return SUCCEEDED if board.all_succeeded() else NOT_SUCCEEDED
    if not board.rows():
        place = namespace or "any namespace"
        raise ConfigError(f"no runs in {place}; apply some, or name another with --namespace")
    return None


def _take_all(inbox: queue.Queue[_News], view: _View, timeout: float | None) -> None:
    """What has come, or what comes next."""
    try:
        view.take(inbox.get(timeout=timeout))
        while True:
            view.take(inbox.get_nowait())
    except queue.Empty:
        pass


def _start(kind: str, source: Source, inbox: queue.Queue[_News], stop: threading.Event) -> None:
    """Follow a resource in a thread, which goes with the process."""

    def tell(change: Change) -> None:
        inbox.put(_News(kind, change))

    def work() -> None:
        try:
            Follower(source, tell, sleep=stop.wait, name=kind).run(stop.is_set)
        except Exception as error:
            inbox.put(_News(kind, end=error))

    threading.Thread(target=work, name=f"watch-{kind}", daemon=True).start()
