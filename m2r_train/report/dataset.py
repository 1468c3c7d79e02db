"""``m2r report`` on a dataset: what is in it, what was dropped and why, and samples to look at.

The page is a function of the dataset's bytes, self-contained and escaped like every other
(:mod:`m2r_train.report.page`), and bounded: at most ``MAX_SHOWN`` samples with small pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from m2r_train.api.yamlload import as_sent
from m2r_train.report.charts import histogram
from m2r_train.report.funnel import REASONS, Manifest, Stage, chain_funnel, funnel, reasons_of
from m2r_train.report.gallery import Bar, cards
from m2r_train.report.markdown import to_yaml
from m2r_train.report.panels import Tile
from m2r_train.report.samples import ImageBudget
from m2r_train.report.survey import Survey, survey
from m2r_train.report.templating import environment
from m2r_train.telemetry.events import redact

MAX_ROWS = 40  # of a table of tasks or answers
MAX_RECIPE = 200_000  # characters of the spec, and of each prompt
_BINS = 20


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram with its words."""

    title: str
    note: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Counted:
    """A table of counts: (name, n, share of the largest), and how many rows were left out."""

    title: str
    rows: list[tuple[str, int, float]]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A funnel: its stages, and what the first one started with."""

    title: str
    stages: list[Stage]

    @property
    def start(self) -> int:
        return max(1, self.stages[0].into)

    @property
    def total(self) -> str:
        """The sum in words: everything that came is kept or dropped."""
        first, last = self.stages[0].into, self.stages[-1].out
        return f"{first:,} = {last:,} kept + {first - last:,} dropped"


def render_dataset(folder: Path, *, digest: str = "") -> str:
    """The page of the dataset in ``folder``, which has been verified; ``digest`` is its digest.

    Raises:
        DataError: a foreign layout, counts that do not add up, a broken file.
    """
    manifest = Manifest.parse((folder / "manifest.json").read_bytes())
    flows = [Flow("Samples", funnel(manifest))]
    if chains := chain_funnel(manifest):
        flows.append(Flow("Chains of the teacher", chains))
    found = survey(folder, manifest)
    bar = Bar.of(manifest.spec)
    return (
        environment()
        .get_template("dataset.html.j2")
        .render(
            title=f"Dataset {manifest.run}",
            manifest=manifest,
            digest=digest,
            tiles=_tiles(manifest, found),
            flows=flows,
            reasons={r: REASONS.get(r, "") for f in flows for r in reasons_of(f.stages)},
            sources=_sources(manifest),
            charts=_charts(found),
            tables=_tables(found),
            bar=bar,
            gallery=cards(found.shown, bar, ImageBudget()),
            tasks=found.tasks,
            spec=to_yaml(redact(as_sent(dict(manifest.spec))))[:MAX_RECIPE],
            prompts={name: text[:MAX_RECIPE] for name, text in manifest.prompts.items()},
            models=_models(manifest),
        )
    )


def _tiles(manifest: Manifest, found: Survey) -> list[Tile]:
    shares = [
        ("samples", f"{found.samples:,}"),
        *((split, f"{n:,}") for split, n in manifest.splits.items() if n),
        ("tasks", f"{len(found.tasks):,}"),
        ("with a chain", f"{found.chains:,}"),
        ("with pictures", f"{found.pictured:,}"),
        ("with a video", f"{found.filmed:,}"),
        ("on disk", _bytes(found.size)),
    ]
    return [Tile(label, value) for label, value in shares if value != "0"]


def _charts(found: Survey) -> list[Chart]:
    made = []
    if found.difficulties:
        bins = [0] * _BINS
        for difficulty, n in found.difficulties.items():
            bins[min(_BINS - 1, max(0, int(difficulty * _BINS)))] += n
        made.append(Chart("Difficulty", "samples by 1 − accuracy of rollouts", histogram(bins)))
    for title, lengths in (
        ("Length of questions", found.question_lengths),
        ("Length of chains", found.chain_lengths),
    ):
        if lengths:
            bins, high = length_bins(lengths)
            note = "characters; the last bar has all that are longer"
            made.append(Chart(title, note, histogram(bins, 0.0, high, title=title)))
    return made


def length_bins(lengths: Mapping[int, int], most: int = _BINS) -> tuple[list[int], float]:
    """Counts of equal bins from 0, and where the last one ends.

    A bin is 1, 2 or 5 times a power of ten wide, so that ``most`` bins reach over all but the
    longest hundredth, which the last bin takes.
    """
    total, seen, reach = sum(lengths.values()), 0, 0
    for length in sorted(lengths):
        seen, reach = seen + lengths[length], length
        if seen >= 0.99 * total:
            break
    width = next(
        m * 10**power for power in range(12) for m in (1, 2, 5) if m * 10**power * most > reach
    )
    count = reach // width + 1
    bins = [0] * count
    for length, n in lengths.items():
        bins[min(length // width, count - 1)] += n
    return bins, float(width * count)


def _tables(found: Survey) -> list[Counted]:
    tables = [
        _counted("Tasks", found.tasks),
        _counted("Splits", found.splits),
        _counted("Domains", found.kinds["domain"]),
        _counted("Kinds of answers", found.kinds["answer_type"]),
        _counted("Rewards", found.kinds["reward"]),
        _counted("Answers to choices", found.letters, by_name=True),
    ]
    for name, scores in found.scores.items():
        shown: Counter[str] = Counter({str(score): n for score, n in scores.items()})
        tables.append(_counted(f"Scores of {name}", shown, by_name=True))
    return [table for table in tables if table.rows]


def _counted(title: str, counts: Mapping[str, int], *, by_name: bool = False) -> Counted:
    rows = sorted(counts.items(), key=lambda r: r[0] if by_name else (-r[1], r[0]))
    most = max(counts.values(), default=0)
    return Counted(
        title, [(k, n, n / most) for k, n in rows[:MAX_ROWS] if most], max(0, len(rows) - MAX_ROWS)
    )


def _sources(manifest: Manifest) -> list[tuple[str, str, int, int]]:
    """(name, what it is, made, kept)."""
    kinds: dict[str, str] = {}
    for source in manifest.spec.get("sources", ()):
        what = next((k for k in ("simulator", "figures", "dataset", "scenes") if source.get(k)), "")
        kinds[str(source.get("name"))] = what
    return [
        (name, kinds.get(name, ""), own.get("made", 0), own.get("kept", 0))
        for name, own in manifest.sources.items()
    ]


def _models(manifest: Manifest) -> list[tuple[str, str, str]]:
    """(role, which model, digest) of the models that had a hand in the dataset."""
    spec = manifest.spec
    roles: Sequence[tuple[str, Any]] = (
        ("generator", spec.get("generator")),
        ("quality.judge", (spec.get("quality") or {}).get("judge")),
        ("difficulty", spec.get("difficulty")),
    )
    found = []
    for role, block in roles:
        for key in ("model", "endpoint"):
            if block and block.get(key):
                path = f"{role}.{key}"
                found.append((path, _model(block[key]), manifest.inputs.get(path) or ""))
    return found


def _model(ref: Mapping[str, Any]) -> str:
    ref = redact(dict(ref))
    if ref.get("from"):
        return f"{ref['from'].get('kind')} {ref['from'].get('name')}"
    if ref.get("preset"):
        return f"preset {ref['preset']}"
    return " ".join(str(ref[key]) for key in ("uri", "url", "model") if ref.get(key))


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
