"""``README.md`` of an exported model: its data, recipe, scores and limits.

A function of what the run was told and did, never of when or where: a run that was stopped and
resumed writes the bytes of one that was not. A model that was made from a model of ours carries on
its lineage, which stands in the header under ``m2r``.

Scores come later than the model, whose folder is finished by then: :func:`with_scores` makes of
the published card one that has them (``m2r card``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from m2r_train import __version__
from m2r_train.api.errors import DataError
from m2r_train.api.yamlload import as_sent
from m2r_train.report.cards import CARD
from m2r_train.report.markdown import fenced, front_matter, plain, table, to_yaml
from m2r_train.telemetry.events import redact
from m2r_train.telemetry.results import result_rows

MAX_CARD = 1 << 20
_MAX_LINEAGE = 32
_NO_SCORES = (
    "None are known here: the model was evaluated by no EvalJob when it was exported. "
    "`m2r card RUN --scores STORE -o README.md` writes this card with the scores of its EvalJobs.\n"
)
_SCORES = "## Scores\n"
_HEADER: Final = re.compile(r"\A---\n(.*?)^---\n(.*)\Z", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.\-]{0,63}")

# What of a spec makes the weights what they are, beside the data and the model it began with.
_RECIPE = {
    "SFTJob": ("training",),
    "RLVRJob": ("steps", "rollout", "rewards", "optimization", "curriculum"),
}
_TOLD = (
    ("loss", "loss of the last step"),
    ("reward", "mean reward of the last step"),
    ("accuracy", "mean accuracy of the last step's rollouts"),
    ("kl", "KL to the model it began with, nats a token"),
    ("eval_loss", "held-out loss, nats a token"),
    ("eval_accuracy", "held-out accuracy, greedy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a card is made from: the run's kind, name, seed and recipe (``api.runspec.recipe``),
    the digests of its inputs by field path, its history, the card of the model it began with."""

    kind: str
    name: str
    seed: int
    spec: Mapping[str, Any]
    digests: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    base_card: str = ""


def model_card(facts: ModelFacts) -> str:
    """The card, without scores. What a foreign base card says is trusted for its licence alone."""
    base, _ = _split(facts.base_card)
    lineage = [*_lineage(base)[1 - _MAX_LINEAGE :], _own(facts)]
    return front_matter(_header(base, lineage)) + "\n" + "\n".join(_body(facts, lineage))


def read_card(folder: Path) -> str:
    """The card of a model's folder; "" where there is none, or one too large to be a card."""
    path = folder / CARD
    if not path.is_file() or path.stat().st_size > MAX_CARD:
        return ""
    return path.read_text("utf-8", "replace")


def with_scores(card: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """``card`` with the scores of ``results``: each EvalJob's name and its ``results.json``.

    Raises:
        DataError: the card is none of ours.
    """
    header, body = _split(card)
    before, found, after = body.partition(_SCORES)
    if not found or not _lineage(header):
        raise DataError("README.md: not a card that M2R wrote; export the model again")
    rest = after.partition("\n## ")
    scored = table(("evaluation", "benchmark", "task", "percent", "standard error", "n"),
                   _score_rows(results))  # fmt: skip
    index = [{"name": _lineage(header)[-1]["name"], "results": list(_index(results))}]
    return (
        front_matter({**header, "model-index": index})
        + before
        + f"{_SCORES}\n{scored}\nPercent, of the questions of an EvalJob.\n"
        + "".join(rest[1:])
    )


def _header(base: Mapping[str, Any], lineage: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = {"SFTJob": "sft", "RLVRJob": "rlvr"}
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["m2r", *(kinds[k] for k in dict.fromkeys(x["kind"] for x in lineage))],
    }
    for key in ("license", "license_name"):
        value = base.get(key)
        if isinstance(value, str) and _LICENCE.fullmatch(value):
            header[key] = value
    return {**header, "m2r": {"lineage": list(lineage)}}


def _own(facts: ModelFacts) -> dict[str, Any]:
    """This run's entry of the lineage."""
    data = [
        {"field": path, "what": _reference(facts.spec.get(path) or {}), "digest": digest}
        for path, digest in sorted(facts.digests.items())
        if path == "dataset"
    ]
    return {
        "kind": facts.kind,
        "name": facts.name,
        "began_with": _reference(facts.spec.get("model") or {}),
        "model_digest": facts.digests.get("model", ""),
        "steps": _steps(facts),
        "data": data,
    }


def _body(facts: ModelFacts, lineage: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"# {plain(facts.name)}\n"
    yield (
        f"A Qwen2.5-VL model, made by the {facts.kind} {plain(facts.name)} of M2R {__version__} "
        f"with seed {facts.seed}. `MANIFEST.json` has the size and SHA-256 of each file.\n"
    )
    yield fenced(
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        'model = AutoModelForImageTextToText.from_pretrained("FOLDER")\n'
        'processor = AutoProcessor.from_pretrained("FOLDER")',
        "python",
    )
    yield "## Data\n"
    yield table(
        ("run", "steps", "began with", "learned from", "SHA-256 of the data"),
        [row for entry in lineage for row in _lineage_rows(entry)],
    )
    yield _SCORES
    yield _NO_SCORES
    yield "## Recipe\n"
    chosen = {key: facts.spec[key] for key in _RECIPE[facts.kind] if key in facts.spec}
    yield fenced(to_yaml(redact(as_sent(chosen))), "yaml")
    if told := list(_told(facts)):
        yield table(("training", ""), told)
    yield "## Limits\n"
    yield "\n".join(f"- {line}" for line in _limits(facts)) + "\n"


def _lineage_rows(entry: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    run = f"{entry['kind']} {entry['name']}"
    began = entry["began_with"]
    if entry["model_digest"]:
        began += f" (SHA-256 {entry['model_digest'][:12]})"
    for data in entry["data"] or [{"what": "not known", "digest": ""}]:
        yield run, str(entry["steps"]), began, data["what"], data["digest"] or "not known"


def _told(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    yield "optimiser steps", str(_steps(facts))
    if (tokens := _tokens(facts)) is not None:
        yield tokens
    for key, what in _TOLD:
        values = [record[key] for record in facts.history if key in record]
        if values:
            yield what, f"{values[-1]:.4g}"


def _steps(facts: ModelFacts) -> int:
    """Steps of the optimiser; a last record may be of an evaluation alone."""
    return sum("lr" in record for record in facts.history)


def _tokens(facts: ModelFacts) -> tuple[str, str] | None:
    if facts.kind == "SFTJob":
        return "tokens trained on", f"{sum(r.get('tokens', 0) for r in facts.history):,}"
    group = (facts.spec.get("rollout") or {}).get("groupSize")
    if group is None:
        return None
    drawn = sum(
        r.get("prompts", 0) * group * r.get("completion_tokens", 0.0) for r in facts.history
    )
    return "tokens of completions", f"{round(drawn):,}"


def _limits(facts: ModelFacts) -> Iterator[str]:
    if (facts.spec.get("model") or {}).get("preset"):
        yield "Begun with a model of a million parameters made from a config: for tests and demos."
    yield (
        "Answers are expected as in training: reasoning in `<think>`, then the answer in "
        "`<answer>` and `\\boxed{}`."
    )
    yield "It knows what its data and the model it began with hold; nobody looked for harm in it."
    if facts.kind == "RLVRJob":
        yield "Rewards check final answers, not reasons: a right answer may have wrong reasons."
    yield (
        "The licence is that of the model it began with, and of the data; where the header names "
        "none, none was found."
    )


def _reference(ref: Mapping[str, Any]) -> str:
    """A model or dataset as the manifest names it."""
    ref = redact(dict(ref))
    made = ref.get("from") or {}
    name = f"{made.get('kind')} {made.get('name')}" if made else ""
    if ref.get("preset"):
        name = f"preset {ref['preset']}"
    parts = [name or str(ref.get("uri") or "not known")]
    if ref.get("split"):
        parts.append(f"split {ref['split']}")
    return ", ".join(parts)


def _split(card: str) -> tuple[dict[str, Any], str]:
    """(header, the rest); no header for what has none that can be read."""
    found = _HEADER.match(card) if len(card) <= MAX_CARD else None
    if found is None:
        return {}, card
    try:
        if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(found[1], yaml.SafeLoader)):
            return {}, card  # aliases can grow without bound; ours have none
        header = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, card
    return (header if isinstance(header, dict) else {}), found[2]


def _lineage(header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a header that M2R wrote; [] for any other."""
    own = header.get("m2r")
    entries = own.get("lineage") if isinstance(own, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_LINEAGE:
        return []
    try:
        return [_entry(entry) for entry in entries]
    except (KeyError, TypeError, ValueError):
        return []


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["kind"] not in _RECIPE:
        raise KeyError(entry["kind"])
    return {
        "kind": entry["kind"],
        "name": _line(entry["name"]),
        "began_with": _line(entry["began_with"]),
        "model_digest": _line(entry["model_digest"]),
        "steps": int(entry["steps"]),
        "data": [
            {k: _line(data[k]) for k in ("field", "what", "digest")} for data in entry["data"]
        ],
    }


def _line(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(text)
    return text[:400]


def _score_rows(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    for row in result_rows(results):
        for model, score in row.scores.items():
            error = "" if score.stderr is None else f"{score.stderr:.2f}"
            yield model, row.benchmark, row.task, f"{score.value:.2f}", error, str(score.n or "")


def _index(results: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The hub's ``model-index``: the headline of each benchmark."""
    for row in result_rows(results):
        if row.task == "overall":
            for name, score in row.scores.items():
                yield {
                    "task": {"type": "image-text-to-text"},
                    "dataset": {"name": row.benchmark, "type": row.benchmark},
                    "metrics": [
                        {"name": f"overall, {name}", "type": "accuracy", "value": score.value}
                    ],
                }
