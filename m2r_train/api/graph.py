"""What waits for what: references between resources, and an order to run them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.problems import SpecErrors, nearest
from m2r_train.api.refs import DatasetRef
from m2r_train.api.resource import Resource
from m2r_train.api.runspec import input_refs

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that takes another resource's result; ``split`` for datasets only.

    ``field_path`` is relative to the spec and is the key in ``RunSpec.inputs``.
    """

    field_path: str
    kind: str
    name: str
    split: str | None = None


def references(resource: Resource) -> list[Reference]:
    """Every reference of a resource, in the order of its fields."""
    found = []
    for path, ref in input_refs(resource.spec):
        if ref.from_ is not None:
            split = ref.split if isinstance(ref, DatasetRef) else None
            found.append(Reference(path, ref.from_.kind, ref.from_.name, split))
    return found


def order(resources: Sequence[Resource], *, external: bool = False) -> list[Resource]:
    """The resources in an order in which each follows those it refers to; else as given.

    ``external``: resources that are not given may exist elsewhere (in the cluster). Raises
    SpecErrors for a missing resource, for a split that its run does not make, and for a cycle,
    naming the chain.
    """
    known = {_key(r): r for r in resources}
    lines = [line for r in resources for line in _bad_references(r, known, external)]
    if lines:
        raise SpecErrors(lines)
    done: dict[_Key, Resource] = {}
    for resource in resources:
        _visit(resource, known, done, [])
    return list(done.values())


def _key(resource: Resource) -> _Key:
    return (resource.namespace, resource.kind, resource.name)


def _bad_references(resource: Resource, known: dict[_Key, Resource], external: bool) -> list[str]:
    lines = []
    for ref in references(resource):
        place = f"{resource.where}: spec.{ref.field_path}"
        target = known.get((resource.namespace, ref.kind, ref.name))
        if target is None:
            if not external:
                lines.append(f"{place}.from: {_missing(resource, ref, known)}")
        elif isinstance(target.spec, DataSynthesisSpec) and not _makes(target.spec, ref.split):
            lines.append(
                f"{place}.split: {ref.kind}/{ref.name} makes no {ref.split} samples; "
                f"set its spec.outputs.{ref.split} above 0"
            )
    return lines


def _missing(resource: Resource, ref: Reference, known: dict[_Key, Resource]) -> str:
    peers = [name for space, kind, name in known if (space, kind) == (resource.namespace, ref.kind)]
    guess = nearest(ref.name, peers)
    remedy = f"did you mean {guess}?" if guess else "add its manifest or correct the name"
    return f"{resource.kind}/{resource.name} -> {ref.kind}/{ref.name}, which is missing; {remedy}"


def _makes(spec: DataSynthesisSpec, split: str | None) -> bool:
    return split is not None and getattr(spec.outputs, split) > 0


def _visit(
    resource: Resource,
    known: dict[_Key, Resource],
    done: dict[_Key, Resource],
    chain: list[Resource],
) -> None:
    if _key(resource) in done:
        return
    if resource in chain:
        cycle = [*chain[chain.index(resource) :], resource]
        names = " -> ".join(f"{r.kind}/{r.name}" for r in cycle)
        raise SpecErrors([f"{resource.where}: refers to itself: {names}; remove one reference"])
    for ref in references(resource):
        target = known.get((resource.namespace, ref.kind, ref.name))
        if target is not None:
            _visit(target, known, done, [*chain, resource])
    done[_key(resource)] = resource
