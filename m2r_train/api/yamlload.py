"""YAML as the API server would read it, with line numbers in errors.

Differences from ``yaml.safe_load``, each because kubectl does it so: a key twice in one map is an
error, ``1e-5`` is a number, ``2.0`` is a whole one, a date is text, and a null is left out.
Documents that grow by aliases beyond a bound are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 100
_INT64: Final = 2.0**63


class YamlProblem(Exception):  # noqa: N818 - internal; callers turn it into a SpecError
    """What is wrong, without the file's name; ``line`` counts from 1, 0 means the whole file."""

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        self.text = text
        super().__init__(text)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number and date rules of kubectl's YAML, and no duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlProblem(key.start_mark.line + 1, "a key must be text; write it plainly")
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise YamlProblem(
                    key.start_mark.line + 1, f"key {key.value} stands twice; remove one"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|nan)$")
_DROPPED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float", "tag:yaml.org,2002:value")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag not in _DROPPED]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load_documents(path: Path, *, nulls: bool = False) -> Iterator[tuple[int, Any]]:
    """(number, value) of each document that is not empty; numbers count from 1.

    ``nulls``: keep them, for files that are not sent to an API server.

    Raises YamlProblem: the file cannot be read, is too large, or is not YAML as allowed here.
    """
    text = _read(path)
    try:
        for number, node in enumerate(yaml.compose_all(text, Loader=_Loader), start=1):
            _check_size(node)
            value = _construct(node, nulls)
            if value is not None:
                yield number, value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise YamlProblem(line, f"not YAML ({error.problem}); correct the line") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise YamlProblem(0, f"not YAML ({reason}); write UTF-8 text") from None
    except RecursionError:
        raise YamlProblem(0, "nested too deeply; write it flatter") from None


def _construct(node: yaml.Node, nulls: bool) -> Any:
    loader = _Loader("")
    try:
        return as_sent(loader.construct_document(node), nulls=nulls)
    except ValueError as error:
        raise YamlProblem(node.start_mark.line + 1, f"{error}; correct the value") from None
    finally:
        loader.dispose()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlProblem(0, f"cannot be read ({error.strerror}); check the path") from None
    if len(text) > MAX_BYTES:
        raise YamlProblem(0, "larger than 1 MiB; split it")
    return text


def _check_size(node: yaml.Node | None) -> None:
    """Refuse a document whose aliases make it endless, too deep or too large."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        line = node.start_mark.line + 1
        if id(node) in open_nodes:
            raise YamlProblem(line, "an alias holds itself; write the value out")
        if depth > MAX_DEPTH:
            raise YamlProblem(line, "nested too deeply; write it flatter")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
            open_nodes.remove(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise YamlProblem(line, f"more than {MAX_NODES} values; split the file")
        return sizes[id(node)]

    if node is not None:
        size(node, 0)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def as_sent(value: Any, *, nulls: bool = False) -> Any:
    """The value as the API server takes it: a null is left out (unless ``nulls``), 2.0 is a whole
    number.
    """
    if isinstance(value, dict):
        kept = ((k, v) for k, v in value.items() if nulls or v is not None)
        return {k: as_sent(v, nulls=nulls) for k, v in kept}
    if isinstance(value, list):
        return [as_sent(v, nulls=nulls) for v in value]
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _INT64
    return int(value) if whole else value
