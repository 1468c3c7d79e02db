"""From a sweep and its base manifests to the manifests that it runs. Pure but for reading files.

What some arm changes, and what is made from that, is run for each arm and seed; the rest once for
each seed, and what is fixed once (ADR 13).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from m2r_train.api.graph import order, references
from m2r_train.api.manifests import load_manifests, parse_document
from m2r_train.api.problems import SpecErrors, nearest
from m2r_train.api.resource import Resource
from m2r_train.api.sweep import ARM_LABEL, SEED_LABEL, SWEEP_LABEL, Sweep
from m2r_train.api.yamlload import load_documents
from m2r_train.sweeps.patching import PatchError, patched

_LONGEST_NAME: Final = 45  # of a run (schema.RunName)
_Key = tuple[str, str]  # kind, name


@dataclass(frozen=True, slots=True)
class Base:
    """A base manifest: parsed, and as it was written."""

    resource: Resource
    document: Mapping[str, Any]

    @property
    def key(self) -> _Key:
        return self.resource.kind, self.resource.name


@dataclass(frozen=True, slots=True)
class Planned:
    """A run of the sweep. No ``arm``: shared by all arms; no ``seed`` either: fixed."""

    resource: Resource
    document: Mapping[str, Any]
    base: str
    arm: str | None
    seed: int | None


def load_base(sweep: Sweep, file: Path) -> list[Base]:
    """The sweep's manifests in order of their references; SpecErrors as `load_manifests`."""
    loaded = load_manifests(file.parent / one for one in sweep.manifests)
    documents = {path: dict(load_documents(path)) for path in {one.path for one in loaded}}
    return [Base(one, documents[one.path][one.document]) for one in order(loaded)]


def expand(sweep: Sweep, base: Sequence[Base], file: Path) -> list[Planned]:
    """Every run, in order of references. Raises SpecErrors: a line a problem, naming ``file``."""
    patches = _by_resource(sweep, base, file)
    reached = _reached(base, {key for patch in patches.values() for key in patch})
    _check_fixed(sweep, base, reached, file)
    wanted: list[Planned] = []
    lines: list[str] = []
    for arm, seed in _rounds(sweep):
        for one in base:
            if _round_of(one, sweep, reached) != (arm is not None, seed is not None):
                continue
            changes = patches[arm].get(one.key, {}) if arm is not None else {}
            try:
                document = patched(one.document, changes)
            except PatchError as problem:
                field = ", ".join(f"{one.resource.name}.{path}" for path in changes)
                lines.append(f"{file}: arms.{arm}: {field}: {problem}")
                continue
            where = file if arm is None else Path(f"{file}: arms.{arm}")
            names = {k: _named(k[1], *_place(k, sweep, reached, arm, seed)) for k in _keys(base)}
            planned = _planned(document, one, where, names, sweep, arm, seed)
            if isinstance(planned, Planned):
                wanted.append(planned)
            else:
                lines += planned
    lines += _doubles(wanted, file)
    if lines:
        raise SpecErrors(dict.fromkeys(lines))  # a mistake of an arm shows with each seed
    by_resource = {id(one.resource): one for one in wanted}
    return [by_resource[id(one)] for one in order([one.resource for one in wanted])]


def _rounds(sweep: Sweep) -> Iterable[tuple[str | None, int | None]]:
    yield None, None
    for seed in sweep.seeds:
        yield None, seed
        for arm in sweep.arms:
            yield arm, seed


def _round_of(one: Base, sweep: Sweep, reached: set[_Key]) -> tuple[bool, bool]:
    """Whether a run of it is of an arm, and of a seed."""
    return one.key in reached, one.resource.name not in sweep.fixed


def _keys(base: Sequence[Base]) -> list[_Key]:
    return [one.key for one in base]


def _place(
    key: _Key, sweep: Sweep, reached: set[_Key], arm: str | None, seed: int | None
) -> tuple[str | None, int | None]:
    return (arm if key in reached else None), (None if key[1] in sweep.fixed else seed)


def _named(name: str, arm: str | None, seed: int | None) -> str:
    parts = [name, *([arm] if arm else []), *([] if seed is None else [f"s{seed}"])]
    return "-".join(parts)


def _planned(
    document: dict[str, Any],
    one: Base,
    where: Path,
    names: Mapping[_Key, str],
    sweep: Sweep,
    arm: str | None,
    seed: int | None,
) -> Planned | list[str]:
    """The run, or what is wrong with it: first as the user named it, then as it is called."""
    parsed = parse_document(document, where, one.resource.document)
    if not isinstance(parsed, Resource):
        return parsed
    name = names[one.key]
    if len(name) > _LONGEST_NAME:
        return [
            f"{where}: {one.resource.kind}/{name}: is {len(name)} characters long, "
            f"{_LONGEST_NAME} are allowed; shorten the arm or the base manifest's name"
        ]
    given = dict(document.get("metadata", {}))
    labels = {**given.get("labels", {}), SWEEP_LABEL: sweep.name}
    labels |= {} if arm is None else {ARM_LABEL: arm}
    labels |= {} if seed is None else {SEED_LABEL: str(seed)}
    changes: dict[str, Any] = {"metadata": {**given, "name": name, "labels": labels}}
    if seed is not None:
        changes["spec.seed"] = seed
    for ref in references(parsed):
        if (ref.kind, ref.name) not in names:
            return [
                f"{where}: {one.resource.kind}/{one.resource.name}: spec.{ref.field_path}.from: "
                f"{ref.kind}/{ref.name} is not among the manifests; add it or correct the name"
            ]
        changes[f"spec.{ref.field_path}.from.name"] = names[ref.kind, ref.name]
    final = patched(document, changes)
    resource = parse_document(final, where, one.resource.document)
    if not isinstance(resource, Resource):
        return resource
    return Planned(resource, final, one.resource.name, arm, seed)


def _by_resource(
    sweep: Sweep, base: Sequence[Base], file: Path
) -> dict[str, dict[_Key, dict[str, Any]]]:
    """Arm -> resource -> path from the manifest's root -> value."""
    lines = []
    found: dict[str, dict[_Key, dict[str, Any]]] = {arm: {} for arm in sweep.arms}
    for arm, patch in sweep.arms.items():
        for field, value in patch.items():
            name, _, path = field.partition(".")
            named = [one.key for one in base if one.resource.name == name]
            if len(named) == 1:
                found[arm].setdefault(named[0], {})[path] = value
                continue
            guess = nearest(name, (one.resource.name for one in base))
            remedy = f"did you mean {guess}?" if guess else "name one of the base manifests"
            many = f"{name} names {len(named)} resources; rename one of them"
            lines.append(
                f"{file}: arms.{arm}: {field}: {many if named else f'no resource {name}; {remedy}'}"
            )
    if lines:
        raise SpecErrors(lines)
    return found


def _reached(base: Sequence[Base], changed: set[_Key]) -> set[_Key]:
    """Those that are changed, and those made from their results; ``base`` is in order."""
    reached = set(changed)
    for one in base:
        if any((ref.kind, ref.name) in reached for ref in references(one.resource)):
            reached.add(one.key)
    return reached


def _check_fixed(sweep: Sweep, base: Sequence[Base], reached: set[_Key], file: Path) -> None:
    lines = []
    for name in sweep.fixed:
        own = [one for one in base if one.resource.name == name]
        if not own:
            lines.append(f"{file}: fixed: no resource {name}; name one of the base manifests")
        for one in own:
            if one.key in reached:
                lines.append(f"{file}: fixed: {name}: an arm changes it; remove it from fixed")
            lines += [
                f"{file}: fixed: {name}: is made from {ref.name}, which is run for each seed; "
                f"add {ref.name} to fixed"
                for ref in references(one.resource)
                if ref.name not in sweep.fixed
            ]
    if lines:
        raise SpecErrors(lines)


def _doubles(wanted: Sequence[Planned], file: Path) -> list[str]:
    seen: dict[tuple[str, str, str], Planned] = {}
    lines = []
    for one in wanted:
        key = (one.resource.namespace, one.resource.kind, one.resource.name)
        other = seen.setdefault(key, one)
        if other is not one:
            lines.append(
                f"{file}: {one.resource.kind}/{one.resource.name}: two runs have this name (of "
                f"{other.base} and {one.base}); rename the arm or a base manifest"
            )
    return lines
