"""Manifests from files: every problem of every file at once, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from m2r_train.api.kinds import KINDS
from m2r_train.api.problems import SpecErrors, nearest, problem_lines
from m2r_train.api.resource import Resource
from m2r_train.api.schema import API_VERSION
from m2r_train.api.yamlload import YamlProblem, load_documents

SUFFIXES: Final = (".yaml", ".yml")


def load_manifests(paths: Iterable[str | Path]) -> list[Resource]:
    """Read files and folders (their *.yaml and *.yml, sorted by name) of manifests.

    Resources come in file and document order. Raises SpecErrors that hold every problem of
    every file; references between resources are checked by ``order``.
    """
    paths = list(paths)
    lines: list[str] = []
    resources: list[Resource] = []
    for path in _files(paths, lines):
        _load_file(path, resources, lines)
    lines += _duplicates(resources)
    if not resources and not lines:
        lines.append(f"{', '.join(map(str, paths))}: no manifests; name a file with resources")
    if lines:
        raise SpecErrors(lines)
    return resources


def _files(paths: Iterable[str | Path], lines: list[str]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
            if not inside:
                lines.append(f"{path}: no *.yaml or *.yml in this folder; name another")
            files.update(dict.fromkeys(inside))
        else:
            files[path] = None
    return list(files)


def _load_file(path: Path, resources: list[Resource], lines: list[str]) -> None:
    try:
        for number, value in load_documents(path):
            parsed = parse_document(value, path, number)
            if isinstance(parsed, Resource):
                resources.append(parsed)
            else:
                lines += parsed
    except YamlProblem as problem:
        line = f"line {problem.line}: " if problem.line else ""
        lines.append(f"{path}: {line}{problem.text}")


def parse_document(value: Any, path: Path, number: int) -> Resource | list[str]:
    """One document as a Resource, or the lines that say what is wrong with it."""
    place = f"{path}: document {number}"
    wrong = _not_ours(value)
    if wrong:
        return [f"{place}: {wrong}"]
    kind, metadata = value["kind"], value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    where = f"{path}: {kind}/{name}" if isinstance(name, str) else f"{place}: {kind}"
    job = KINDS[kind].job
    try:
        text = json.dumps(value)
        parsed = job.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except TypeError:  # !!binary and !!set are YAML, but not JSON
        return [f"{where}: holds a value that JSON does not have; write plain text"]
    except ValidationError as error:
        return problem_lines(error, job, where)
    return Resource(job=parsed, path=path, document=number)


def _not_ours(value: Any) -> str:
    """Why a document cannot be parsed as any of the kinds; empty when it can."""
    if not isinstance(value, dict):
        return f"must be a map; begin with apiVersion: {API_VERSION}"
    kind = value.get("kind")
    if kind is None:
        return f"kind: is required; add one of {', '.join(KINDS)}"
    if not isinstance(kind, str) or kind not in KINDS:
        guess = nearest(str(kind), KINDS) or f"one of {', '.join(KINDS)}"
        return f"kind: {json.dumps(kind, default=str)} is not a kind of M2R; write {guess}"
    return "" if "apiVersion" in value else f"apiVersion: is required; add {API_VERSION}"


def _duplicates(resources: list[Resource]) -> list[str]:
    first: dict[tuple[str, str, str], Resource] = {}
    lines = []
    for resource in resources:
        key = (resource.namespace, resource.kind, resource.name)
        known = first.setdefault(key, resource)
        if known is not resource:
            lines.append(
                f"{resource.where}: metadata.name: already used in {known.path} "
                f"document {known.document}; rename one"
            )
    return lines
