"""The custom resources as they were last seen, and who refers to whom.

Objects arrive from Kopf's watch, from answers to our own writes and from a full list now and
then, in any order; of two versions of one object the newer wins, and what is known to be deleted
does not come back. Specs are parsed once for each generation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from m2r_operator.graves import Graves
from m2r_operator.observe import key_of, run_seen, spec_seen, uid_of, version_of
from m2r_operator.state import Dependency, Key, RunSeen
from m2r_train.api import DataSynthesisSpec, JobSpec, RunInput, input_refs
from m2r_train.api.status import Condition

Parsed = tuple[JobSpec | None, str]


@dataclass(frozen=True, slots=True)
class Ref:
    """A field of a spec that takes another run's result."""

    field: str
    target: Key
    split: str | None


@dataclass(frozen=True, slots=True)
class _Entry:
    run: RunSeen
    version: int
    refs: tuple[Ref, ...]


class Runs:
    """What is known of all runs. ``changed`` is called with each key that must be looked at."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._entries: dict[Key, _Entry] = {}
        self._by_uid: dict[str, Key] = {}
        self._referrers: dict[Key, set[Key]] = defaultdict(set)
        self._graves = Graves()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RunSeen]:
        return iter([entry.run for entry in self._entries.values()])

    def get(self, key: Key) -> RunSeen | None:
        """A run as last seen."""
        entry = self._entries.get(key)
        return entry.run if entry is not None else None

    def key_of_uid(self, uid: str) -> Key | None:
        """The run with this uid."""
        return self._by_uid.get(uid)

    def put(self, kind: str, body: Mapping[str, Any]) -> bool:
        """Take in an object; whether it was news."""
        key, uid, version = key_of(kind, body), uid_of(body), version_of(body)
        known = self._entries.get(key)
        if uid in self._graves or (known is not None and version <= known.version):
            return False
        if known is not None and known.run.uid != uid:  # made anew under the same name
            self._bury(known.run)
        run = run_seen(kind, body, lambda kind, body: self._spec(known, uid, kind, body))
        unread = known is not None and known.run.spec is run.spec
        refs = known.refs if unread and known is not None else refs_of(run)
        self._entries[key] = _Entry(run, version, refs)
        self._by_uid[uid] = key
        self._relink(key, known.refs if known is not None else (), refs)
        self._changed(key)
        if known is None or _public(known.run) != _public(run):
            self._tell_referrers(key)
        return True

    def remove(self, kind: str, body: Mapping[str, Any]) -> None:
        """An object is deleted."""
        self._remove(key_of(kind, body), uid_of(body))

    def lost(self, key: Key, uid: str) -> None:
        """The API server no longer has a run."""
        self._remove(key, uid)

    def replace(
        self, kind: str, namespace: str | None, bodies: Iterable[Mapping[str, Any]], version: int
    ) -> list[Key]:
        """Take in a full list of a kind (of one namespace, or None: of all), read at ``version``.

        Returns what it brought that was not known: changed and lost runs.
        """
        listed: set[str] = set()
        news = []
        for body in bodies:
            listed.add(uid_of(body))
            if self.put(kind, body):
                news.append(key_of(kind, body))
        for key, entry in list(self._entries.items()):
            if key.kind != kind or (namespace is not None and key.namespace != namespace):
                continue
            if entry.run.uid not in listed and entry.version <= version:
                self._remove(key, entry.run.uid)
                news.append(key)
        return news

    def dependencies(self, run: RunSeen) -> tuple[Dependency, ...]:
        """What a run's references stand at; in the order of its fields."""
        entry = self._entries.get(run.key)
        refs = entry.refs if entry is not None and entry.run is run else refs_of(run)
        return tuple(self._dependency(run.key, ref) for ref in refs)

    def _dependency(self, key: Key, ref: Ref) -> Dependency:
        reason, message, found = self._resolve(key, ref)
        return Dependency(
            field=ref.field,
            kind=ref.target.kind,
            name=ref.target.name,
            input=found,
            reason=reason,
            message=message,
        )

    def _resolve(self, key: Key, ref: Ref) -> tuple[str, str, RunInput | None]:
        target, what = self.get(ref.target), f"{ref.target.kind}/{ref.target.name}"
        if target is None:
            return "DependencyMissing", f"{what} does not exist here; apply it", None
        if _lacks_split(target, ref.split):
            return (
                "DependencySplitMissing",
                f"{what} makes no {ref.split} samples; make one with spec.outputs.{ref.split} > 0",
                None,
            )
        if _is(target, "Complete"):
            return _result(target, what)
        if _is(target, "Failed"):
            return "DependencyFailed", f"{what} has failed; delete it and apply it anew", None
        cycle = self._cycle(key, ref.target)
        if cycle:
            names = " -> ".join(f"{k.kind}/{k.name}" for k in cycle)
            return "DependencyCycle", f"{names} refer to each other; remove one reference", None
        return "DependencyRunning", f"waits for {what}", None

    def _cycle(self, start: Key, via: Key) -> list[Key]:
        """The chain from ``start`` over ``via`` back to ``start``, if there is one."""
        stack, seen = [[start, via]], {via}
        while stack:
            chain = stack.pop()
            if chain[-1] == start:
                return chain
            entry = self._entries.get(chain[-1])
            for ref in entry.refs if entry is not None else ():
                if ref.target == start or ref.target not in seen:
                    seen.add(ref.target)
                    stack.append([*chain, ref.target])
        return []

    def _spec(self, known: _Entry | None, uid: str, kind: str, body: Mapping[str, Any]) -> Parsed:
        """A spec, parsed once for each generation."""
        generation = (body.get("metadata") or {}).get("generation")
        if known is not None and known.run.uid == uid and known.run.generation == generation:
            return known.run.spec, known.run.unreadable
        return spec_seen(kind, body)

    def _remove(self, key: Key, uid: str) -> None:
        entry = self._entries.get(key)
        self._graves.add(uid)
        if entry is None or entry.run.uid != uid:
            return
        del self._entries[key]
        self._bury(entry.run)
        self._relink(key, entry.refs, ())
        self._changed(key)
        self._tell_referrers(key)

    def _bury(self, run: RunSeen) -> None:
        self._graves.add(run.uid)
        self._by_uid.pop(run.uid, None)

    def _relink(self, key: Key, old: tuple[Ref, ...], new: tuple[Ref, ...]) -> None:
        if old is new:
            return
        for ref in old:
            self._referrers[ref.target].discard(key)
            if not self._referrers[ref.target]:
                del self._referrers[ref.target]
        for ref in new:
            self._referrers[ref.target].add(key)

    def _tell_referrers(self, key: Key) -> None:
        for referrer in tuple(self._referrers.get(key, ())):
            if referrer in self._entries:
                self._changed(referrer)


def refs_of(run: RunSeen) -> tuple[Ref, ...]:
    """The references of a run's spec, in the order of its fields."""
    if run.spec is None:
        return ()
    return tuple(
        Ref(
            field=path,
            target=Key(ref.from_.kind, run.key.namespace, ref.from_.name),
            split=getattr(ref, "split", None),
        )
        for path, ref in input_refs(run.spec)
        if ref.from_ is not None
    )


def _public(run: RunSeen) -> tuple[object, ...]:
    """What of a run others can depend on; anything else of it is no news to them."""
    return (run.uid, run.spec, _is(run, "Complete"), _is(run, "Failed"), run.status.outputs)


def _is(run: RunSeen, kind: str) -> bool:
    found: Condition | None = next((c for c in run.status.conditions if c.type == kind), None)
    return found is not None and found.status == "True"


def _lacks_split(target: RunSeen, split: str | None) -> bool:
    if split is None or not isinstance(target.spec, DataSynthesisSpec):
        return False
    return not getattr(target.spec.outputs, split)


def _result(target: RunSeen, what: str) -> tuple[str, str, RunInput | None]:
    outputs = target.status.outputs
    uri = (outputs.model_uri or outputs.dataset_uri) if outputs is not None else None
    if outputs is None or uri is None:
        return "DependencyFailed", f"{what} is complete but names no result; run it anew", None
    return "", "", RunInput(uri=uri, digest=outputs.digest)
