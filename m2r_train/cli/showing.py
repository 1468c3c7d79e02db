"""Commands that look at runs: reports, traces, cards, trackers; and scores without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from m2r_train import completing
from m2r_train.api.errors import ConfigError
from m2r_train.cli.base import Endpoint, app, cache_dir, check_writable, known_runs, write_file


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders in a store, a store's root, or one dataset's folder.",
            autocompletion=known_runs,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file.")],
    endpoint: Endpoint = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Lay runs of a kind over each other, and print what evaluations of the same "
            "questions differ by.",
        ),
    ] = False,
    claim: Annotated[
        Path | None,
        typer.Option(help="With --compare: judge this claim by the arms of a sweep."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--json", help="With --claim: write all its figures here.")
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option("--step", help="Show this step's traces in full; may be repeated."),
    ] = None,
    of_sweep: Annotated[
        Path | None,
        typer.Option(
            "--sweep",
            help="With --claim and a store that m2r sweep wrote to: only the runs of this sweep.",
        ),
    ] = None,
) -> None:
    """Write one self-contained page: tables, curves, samples with pictures."""
    from m2r_train.reporting import differences_table, write_report

    check_writable(out)
    check_writable(figures)
    wanted = (claim, compare), (figures, claim), (of_sweep, claim)
    if any(option is not None and not needed for option, needed in wanted):
        raise ConfigError("--claim needs --compare; --json and --sweep need --claim; add it")
    if claim is not None and step:
        raise ConfigError("--step: a claim's page shows no traces; leave out --step or --claim")
    if claim is not None:
        from m2r_train.sweeps.judging import judge

        found = judge(claim, runs, out, endpoint=endpoint, of_sweep=of_sweep, cache_dir=cache_dir())
        if figures is not None:
            write_file(figures, json.dumps(found, indent=1, sort_keys=True) + "\n")
        verdict = found["verdict"]
        typer.echo(f"{found['claim']['name']}: {verdict['word']}: {verdict['why']}")
        typer.echo(out)
        return
    told = write_report(
        runs, out, cache_dir=cache_dir(), endpoint=endpoint, compare=compare, steps=step or ()
    )
    if compare:
        typer.echo(differences_table(told), nl=False)
    typer.echo(out)


@app.command()
def traces(
    run: Annotated[str, typer.Argument(help="Folder of an RLVRJob's run in a store.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="The step; left out: list the steps there are.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Prompts of this task alone.")] = None,
    problem: Annotated[str | None, typer.Option(help="The prompt with this id alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a prompt.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Show what the model was asked and said at a step, and what each completion earned."""
    from rich.console import Console

    from m2r_train.telemetry.history import to_lines
    from m2r_train.tracing import renderables, traced_run, traced_steps, traces_of

    found = traced_run(run, endpoint=endpoint)
    if step is None:
        typer.echo("\n".join(map(str, traced_steps(found))))
        return
    chosen = traces_of(found, step, task=task, problem=problem)
    if as_json:
        typer.echo(to_lines(chosen).decode(), nl=False)
        return
    console = Console(highlight=False)
    for one in renderables(chosen):
        console.print(one)


@app.command()
def card(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of an SFTJob's or RLVRJob's run in a store.", autocompletion=known_runs
        ),
    ],
    scores: Annotated[
        list[str], typer.Option("--scores", help="EvalJobs' folders, or a store that holds them.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The card, a Markdown file.")],
    endpoint: Endpoint = None,
) -> None:
    """Write the card of an exported model with the scores of its EvalJobs."""
    from m2r_train.carding import scored_card

    check_writable(out)
    write_file(out, scored_card(run, scores, endpoint=endpoint))
    typer.echo(out)


@app.command()
def export(
    runs: Annotated[list[str], typer.Argument(help="Run folders in a store, or a store's root.")],
    to: Annotated[str, typer.Option("--to", help="tensorboard, mlflow or wandb.")],
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="Folder; for mlflow its tracking URI."),
    ] = None,
    project: Annotated[str, typer.Option(help="Experiment or project of the tracker.")] = "m2r",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the runs have ended.")
    ] = False,
    endpoint: Endpoint = None,
) -> None:
    """Write runs to a tracker: figures of every step, config, scores, samples. Adds what is new."""
    from m2r_train.exporting import export as export_runs
    from m2r_train.trackers import open_tracker

    tracker = open_tracker(to, out, project)
    export_runs(runs, tracker, endpoint=endpoint, follow=follow, tell=typer.echo)
    typer.echo(tracker.where())


@app.command()
def score(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="Whose rules: mathvista, cv-bench, ...", autocompletion=completing.benchmarks
        ),
    ],
    source: Annotated[
        Path, typer.Option("--input", help="JSON Lines: the records, each with its prediction.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of samples.jsonl and summary.json.")],
    rule: Annotated[
        str, typer.Option(help="official, vlmevalkit or lmms-eval, where they differ.")
    ] = "official",
    answer: Annotated[
        str,
        typer.Option(help="tagged cuts <answer> and \\boxed{} first; raw takes the whole text."),
    ] = "tagged",
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept a set with parts missing.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="Another model's predictions to the same questions: the difference."),
    ] = None,
) -> None:
    """Score predictions by a benchmark's published rules, without a model."""
    from m2r_train.scoring import score_file, told_difference

    summary = score_file(
        benchmark, source, out, rule=rule, answer=answer, partial=partial, against=against
    )
    headline = summary["scores"][summary["headline"]]
    value = "undefined" if headline["value"] is None else f"{headline['value']:.2f}"
    typer.echo(f"{summary['benchmark']} {summary['headline']}: {value} (n = {headline['n']})")
    if against is not None:
        typer.echo(told_difference(summary))
