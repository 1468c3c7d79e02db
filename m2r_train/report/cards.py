"""``README.md`` of a dataset: its card, with the header that the Hugging Face libraries read.

A function of the dataset's manifest: no time, no place, no name of a machine, so that equal runs
write equal cards. ``datasets.load_dataset(FOLDER)`` finds the splits by the header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m2r_train import __version__
from m2r_train.api.yamlload import as_sent
from m2r_train.report.funnel import REASONS, Manifest, Stage, chain_funnel, funnel, reasons_of
from m2r_train.report.markdown import fenced, front_matter, plain, table, to_yaml
from m2r_train.telemetry.events import redact

CARD = "README.md"
MAX_TASKS = 100

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)

_FIELDS = (
    ("id", "name of the sample, in one split only"),
    ("domain", "general or spatial"),
    ("task, source", "what is asked, and the source that gave it"),
    ("question, options", "the question; the options of a choice, else null"),
    ("answer, answer_type, unit", "the truth: a choice, number, expression or text"),
    ("reward", "exact, or ednm for a number that may be nearly right"),
    ("images, video", "encoded pictures; the frames of a video in order, else null"),
    ("chain", "a reasoning chain with its answer, or null"),
    ("quality", "scores of the chain, 1 to 5: structure, load, verification; or null"),
    ("accuracy, difficulty", "mean reward of rollouts, and 1 less it; or null"),
)


def dataset_card(manifest: Mapping[str, Any]) -> str:
    """The card of the dataset that ``manifest`` (``dataset/manifest.json``) describes.

    Raises:
        DataError: no manifest of a synthesis, or counts that do not add up.
    """
    made = Manifest.parse(manifest)
    return front_matter(_header(made)) + "\n" + "\n".join(_body(made))


def _header(made: Manifest) -> dict[str, Any]:
    return {
        "pretty_name": made.run,
        "task_categories": _categories(made.spec),
        "size_categories": [_size(made.samples)],
        "tags": ["m2r", "reasoning", "multimodal"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"{split}/*.parquet"}
                    for split, n in made.splits.items()
                    if n
                ],
            }
        ],
    }


def _categories(spec: Mapping[str, Any]) -> list[str]:
    """Hugging Face's names of what the sources ask."""
    found = set()
    for source in spec.get("sources", ()):
        simulator = source.get("simulator") or {}
        if simulator.get("video") or source.get("scenes"):
            found.add("video-text-to-text")
        if source.get("figures") or (simulator and not simulator.get("video")):
            found.add("visual-question-answering")
        if source.get("dataset"):
            found.add("question-answering")
    return sorted(found)


def _size(samples: int) -> str:
    return next((name for limit, name in _SIZES if samples < limit), "100M<n<1B")


def _body(made: Manifest) -> Iterator[str]:
    yield f"# {plain(made.run)}\n"
    yield (
        f"{made.samples:,} questions with verifiable answers, made by the DataSynthesisJob "
        f"{plain(made.run)} of M2R {__version__} with seed {made.seed}. `manifest.json` has what "
        "stands here in a form for programs; `MANIFEST.json` has the size and SHA-256 of each "
        "file.\n"
    )
    yield "## Load\n"
    yield fenced(_loading(made), "python")
    yield "`m2r report FOLDER -o page.html` shows samples with their pictures.\n"
    yield "## Splits\n"
    yield from _splits(made)
    yield "## Fields\n"
    yield table(("field", "what it holds"), _FIELDS)
    yield "## What was dropped\n"
    yield from _dropped(made)
    yield "## Recipe\n"
    yield from _recipe(made)
    yield "## Limits\n"
    yield "\n".join(f"- {line}" for line in _limits(made)) + "\n"


def _loading(made: Manifest) -> str:
    split = next((name for name, n in made.splits.items() if n), "sft")
    return (
        "from datasets import load_dataset\n\n"
        'data = load_dataset("FOLDER")  # this folder, with all its splits\n'
        f'part = load_dataset("parquet", data_files="FOLDER/{split}/*.parquet", split="train")'
    )


def _splits(made: Manifest) -> Iterator[str]:
    tasks = made.all_tasks()
    shown = list(tasks)[:MAX_TASKS]
    names = list(made.splits)
    rows: list[Sequence[object]] = [
        (task, *(made.tasks[split].get(task, 0) for split in names), tasks[task]) for task in shown
    ]
    rows.append(("all", *(made.splits[split] for split in names), made.samples))
    yield table(("task", *names, "all"), rows)
    if len(tasks) > len(shown):
        yield f"{len(tasks) - len(shown):,} more tasks are in `manifest.json`.\n"
    yield "No two splits share a sample or a picture.\n"


def _dropped(made: Manifest) -> Iterator[str]:
    samples, chains = funnel(made), chain_funnel(made)
    yield table(("stage", "in", "out", "dropped"), _stages(samples))
    if chains:
        yield "Of the chains that the teacher wrote:\n"
        yield table(("stage", "in", "out", "dropped"), _stages(chains))
        asked, taught = made.questions.get("asked", 0), made.questions.get("taught", 0)
        yield f"{asked:,} questions were asked, {taught:,} have a chain.\n"
    reasons = sorted(reasons_of([*samples, *chains]))
    if reasons:
        yield table(
            ("reason", "which is"),
            [(reason, REASONS.get(reason, "named by the run")) for reason in reasons],
        )
    yield table(
        ("source", "made", "kept"),
        [(name, own.get("made", 0), own.get("kept", 0)) for name, own in made.sources.items()],
    )


def _stages(stages: Sequence[Stage]) -> Iterator[tuple[object, ...]]:
    for stage in stages:
        dropped = ", ".join(f"{reason}: {n:,}" for reason, n in stage.dropped.items())
        yield stage.name, stage.into, stage.out, dropped or "nothing"


def _recipe(made: Manifest) -> Iterator[str]:
    if made.inputs:
        yield table(
            ("input", "SHA-256 of its files"),
            [(path, digest or "not known") for path, digest in sorted(made.inputs.items())],
        )
    yield fenced(to_yaml(redact(as_sent(dict(made.spec)))), "yaml")
    for name, prompt in sorted(made.prompts.items()):
        yield f"The {plain(name)}'s prompt:\n"
        yield fenced(prompt)


def _limits(made: Manifest) -> Iterator[str]:
    spec = made.spec
    sources = spec.get("sources", ())
    generator = spec.get("generator") or {}
    teaches = bool(generator.get("model") or generator.get("endpoint"))
    if any(source.get("simulator") or source.get("figures") for source in sources):
        yield "Simulated and drawn pictures: exact labels, a narrow world, not photographs."
    if any(source.get("simulator") or source.get("figures") for source in sources) and not teaches:
        yield "Chains by templates: right by construction, uniform in wording, without scores."
    if teaches:
        judge = (spec.get("quality") or {}).get("judge")
        who = "another model" if judge else "rules that measure the text"
        yield f"Chains by a model, their answers verified, their quality scored by {who}."
    if spec.get("decontamination") is None:
        yield "Nothing was compared with benchmarks: what one of them holds may be in here."
    if spec.get("difficulty") is None:
        yield "Difficulty was not measured."
    if any(source.get("dataset") or source.get("scenes") for source in sources):
        yield "Questions or scenes of others keep the licence of their source."
    yield "No licence is stated here: who publishes this adds one to the header above."
