"""The command ``m2r`` (design section 8). torch is imported only by commands that compute."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from m2r_train import __version__, completing, lifeline
from m2r_train.api.errors import ConfigError, M2RError, SpecError, naming
from m2r_train.stages.stop import StopRequest

app = typer.Typer(
    name="m2r",
    help="Train multimodal reasoning models: data synthesis, SFT, RLVR, evaluation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
store_app = typer.Typer(help="Look after stores.", no_args_is_help=True)
app.add_typer(store_app, name="store")

Files = Annotated[
    list[Path], typer.Option("-f", "--file", help="Manifest file or folder; may be repeated.")
]
StoreUri = Annotated[
    str | None, typer.Option("--store", help="Where runs write, e.g. s3://bucket/prefix or a path.")
]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="URL of the S3 server.")]

DEFAULT_STORE = "m2r-store"


def _runs(incomplete: str) -> list[str]:
    return completing.runs(os.environ.get("M2R_STORE", DEFAULT_STORE), incomplete)


_INTERRUPTED = 130  # as a shell reports SIGINT: nothing had begun that could be saved


def main(stop: StopRequest | None = None) -> None:
    """The command line: a user's mistake is one line and the documented exit code, no traceback.

    ``stop`` is where signals are taken already.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if (
            app(standalone_mode=False, obj=stop) == _INTERRUPTED
        ):  # typer turns Ctrl-C into this exit
            raise KeyboardInterrupt
    except M2RError as error:
        for line in getattr(error, "lines", None) or [str(error)]:
            if not lifeline.is_held():  # else the launcher tells, once for all ranks
                _complain(line)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        _complain(error.format_message())
        sys.exit(SpecError.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted; the same command goes on from the last checkpoint")
        sys.exit(_INTERRUPTED)


def _complain(line: str) -> None:
    sys.stderr.write(f"m2r: {line}\n")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train multimodal reasoning models."""
    if version:
        typer.echo(f"m2r {__version__}")
        raise typer.Exit


@app.command()
def run(
    file: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", help="Manifest file or folder; may be repeated."),
    ] = None,
    store: StoreUri = None,
    endpoint: Endpoint = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Use this seed in every resource.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a JSON summary here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run nothing: show a cluster's runs (docs/watch.md).")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="With --watch: runs of this namespace.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="With --watch: runs of all namespaces.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="With --watch: how to log in; else $KUBECONFIG.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="With --watch: the file's context.")] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="With --watch: end when all runs have ended.")
    ] = False,
) -> None:
    """Run manifests on this machine, in the order of their references; resumes what is there.

    With --watch: show the runs of a cluster instead.
    """
    _check_modes(
        watch,
        here={"--store": store, "--endpoint": endpoint, "--seed": seed, "--summary": summary,
              "--report": report},
        there={"--namespace": namespace, "--all-namespaces": all_namespaces or None,
               "--kubeconfig": kubeconfig, "--context": context,
               "--until-done": until_done or None},
    )  # fmt: skip
    if watch:
        raise SystemExit(_watch(file, namespace, all_namespaces, kubeconfig, context, until_done))
    if not file:
        raise SpecError("--file: is required; name manifests with -f, or watch a cluster (--watch)")
    from m2r_train.api import load_manifests, order
    from m2r_train.api.runspec import RunStorage
    from m2r_train.engine.ranks import RANK, seat_here
    from m2r_train.stages.support import refuse_unsupported
    from m2r_train.telemetry.progress import Progress

    if seat_here() is not None:
        raise ConfigError(
            f"{RANK} is set: m2r run starts the ranks of a run itself; without torchrun it works, "
            "and m2r stage works with it"
        )
    resources = order(load_manifests(file))
    for resource in resources:  # before the first has run for hours
        with naming(resource.where):
            refuse_unsupported(resource.spec)
    _check_writable(summary)
    _check_writable(report)
    stop = StopRequest()
    with stop.listening(), Progress() as progress:
        from m2r_train.reporting import final_table, find_runs, write_report
        from m2r_train.runner import run_all
        from m2r_train.runner import summary as summarise

        finished = run_all(
            resources,
            store=RunStorage(uri=_store_uri(store), endpoint=endpoint) if store else None,
            default_store=_store_uri(os.environ.get("M2R_STORE", DEFAULT_STORE)),
            seed=seed,
            progress=progress,
            cache_dir=cache_dir(),
            stop=stop,
        )
        folders = [run.uri for run in finished]
        table = final_table(find_runs(folders, endpoint=endpoint))
        if table is not None:
            progress.show(table)
        if report is not None:
            write_report(folders, report, endpoint=endpoint, cache_dir=cache_dir())
            progress.note(f"report: {report}")
    if summary is not None:
        _write(summary, json.dumps(summarise(finished), indent=1, sort_keys=True) + "\n")


def _check_modes(watch: bool, *, here: dict[str, object], there: dict[str, object]) -> None:
    """Options that the chosen way of ``m2r run`` does not have are no silent no-ops."""
    for name, value in (here if watch else there).items():
        if value is not None:
            remedy = "leave it out" if watch else "add --watch"
            raise SpecError(f"{name}: {'not with' if watch else 'only with'} --watch; {remedy}")


def _watch(
    file: list[Path] | None,
    namespace: str | None,
    all_namespaces: bool,
    kubeconfig: Path | None,
    context: str | None,
    until_done: bool,
) -> int:
    """Show a cluster's runs; the exit code."""
    try:
        from m2r_train.clusterwatch.watching import watch
    except ImportError as error:
        raise ConfigError(f"--watch: {error}; install m2r[watch]") from error
    try:
        return watch(
            file or (),
            namespace=namespace,
            all_namespaces=all_namespaces,
            kubeconfig=kubeconfig,
            context=context,
            until_done=until_done,
        )
    except KeyboardInterrupt:  # not "goes on from the last checkpoint": nothing was run
        return _INTERRUPTED


@app.command()
def sweep(
    file: Annotated[
        Path | None, typer.Argument(help="The sweep: base manifests, arms, seeds.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", help="Instead: base manifests, whose fields --set changes."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="RESOURCE.spec.FIELD=V1,V2: an arm for each combination."),
    ] = None,
    store: StoreUri = None,
    endpoint: Endpoint = None,
    seeds: Annotated[str | None, typer.Option(help="Instead of the file's: 0-4 or 0,3.")] = None,
    lanes: Annotated[
        int, typer.Option("-j", "--lanes", min=1, max=256, help="Runs at once, a thread each.")
    ] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the manifests here for kubectl apply, and run none.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the manifests with kubectl, and run none here.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="With --apply: where.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a JSON summary here.")] = None,
) -> None:
    """Run arms that differ in a few fields, each with every seed; resumes what is there."""
    from m2r_train.api.runspec import RunStorage
    from m2r_train.sweeps.ablation import OPTION, ablation
    from m2r_train.sweeps.command import board_of, planned, run_sweep
    from m2r_train.sweeps.telling import (
        apply_manifests,
        manifests_text,
        plan_table,
        sweep_summary,
        write_manifests,
    )

    if bool(file) == bool(files and sets) or bool(files) != bool(sets):
        raise ConfigError("a sweep's file, or -f FILE with --set PATH=V1,V2; give one of both")
    if namespace is not None and not apply:
        raise ConfigError("--namespace needs --apply; add it")
    made = ablation(files, sets) if files and sets else None
    runs = planned(file or OPTION, seeds, made)
    if apply:
        typer.echo(apply_manifests(runs, namespace), nl=False)
        return
    if made is not None and store is None and write is None and not plan:
        typer.echo(manifests_text(runs), nl=False)
        return
    if write is not None:
        for path in write_manifests(runs, write):
            typer.echo(path)
        return
    _check_writable(summary)
    uri = _store_uri(store or os.environ.get("M2R_STORE", DEFAULT_STORE))
    stop = StopRequest()
    with stop.listening():
        board = board_of(runs, RunStorage(uri=uri, endpoint=endpoint), cache_dir())
        if plan:
            typer.echo(plan_table(board), nl=False)
            return
        try:
            run_sweep(board, lanes, stop)
        finally:
            if summary is not None:
                _write(summary, json.dumps(sweep_summary(board), indent=1, sort_keys=True) + "\n")


@app.command(hidden=True)
def lane(context: typer.Context) -> None:
    """Carry the runs that are told on standard input: what m2r sweep --lanes starts."""
    stop: StopRequest = context.obj or StopRequest()
    with stop.listening():
        from m2r_train.sweeps.lanes import serve

        with os.fdopen(os.dup(1), "w") as answers:
            os.dup2(2, 1)  # what a library prints is no answer
            serve(sys.stdin, answers, cache_dir(), stop)


@app.command()
def stage(
    context: typer.Context,
    spec: Annotated[
        Path, typer.Option("--spec", help="Run spec (JSON), as the operator mounts it.")
    ],
    port: Annotated[
        int, typer.Option(help="Port of /metrics and /status; 0 takes a free one.")
    ] = 9400,
) -> None:
    """Run one attempt at one run: what a pod runs."""
    stop: StopRequest = context.obj or StopRequest()
    with stop.listening():
        from m2r_train.pod import run_pod

        run_pod(spec, port=port, cache_dir=cache_dir(), stop=stop)


@app.command()
def purge(
    spec: Annotated[Path, typer.Option("--spec", help="Run spec (JSON) of the run.")],
) -> None:
    """Delete everything that one run has in its store; run it again if it was interrupted."""
    from m2r_train.purging import purge_run
    from m2r_train.stages.stop import StopRequest

    stop = StopRequest()
    with stop.listening():
        typer.echo(purge_run(spec, stopped=lambda: bool(stop)))


@app.command()
def validate(
    file: Files,
    alone: Annotated[
        bool, typer.Option("--alone", help="Accept references to resources that are not given.")
    ] = False,
) -> None:
    """Check manifests: the verdict of the API server, with field and remedy."""
    from m2r_train.api import load_manifests, order

    resources = order(load_manifests(file), external=alone)
    for resource in resources:
        typer.echo(f"{resource.where}: valid")


@app.command()
def crds(
    check: Annotated[bool, typer.Option("--check", help="Fail if the files differ.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the CRDs.")] = Path("crds"),
    docs: Annotated[Path, typer.Option(help="Folder of the reference pages.")] = Path(
        "docs/reference"
    ),
) -> None:
    """Write the CRDs and the reference pages, or check that they are fresh."""
    from m2r_train.api.crdgen import check_crds, write_crds
    from m2r_train.api.docsgen import check_docs, write_docs

    if check:
        stale = [*check_crds(out), *check_docs(docs)]
        if stale:
            raise M2RError(f"not fresh: {', '.join(map(str, stale))}; run `m2r crds`")
        return
    for path in [*write_crds(out), *write_docs(docs)]:
        typer.echo(path)


@app.command()
def card(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of an SFTJob's or RLVRJob's run in a store.", autocompletion=_runs
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

    _check_writable(out)
    _write(out, scored_card(run, scores, endpoint=endpoint))
    typer.echo(out)


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders in a store, a store's root, or one dataset's folder.",
            autocompletion=_runs,
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

    _check_writable(out)
    _check_writable(figures)
    wanted = (claim, compare), (figures, claim), (of_sweep, claim)
    if any(option is not None and not needed for option, needed in wanted):
        raise ConfigError("--claim needs --compare; --json and --sweep need --claim; add it")
    if claim is not None:
        from m2r_train.sweeps.judging import judge

        found = judge(claim, runs, out, endpoint=endpoint, of_sweep=of_sweep, cache_dir=cache_dir())
        if figures is not None:
            _write(figures, json.dumps(found, indent=1, sort_keys=True) + "\n")
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


@app.command()
def completion(
    shell: Annotated[completing.Shell, typer.Argument(help="Whose words are completed.")],
) -> None:
    """Print the script that completes commands, options, runs: eval "$(m2r completion bash)"."""
    typer.echo(completing.script(shell))


@store_app.command("check")
def store_check(
    uri: Annotated[str, typer.Argument(help="Store to check.")], endpoint: Endpoint = None
) -> None:
    """Prove that a store has the conditional writes that the promises need."""
    from m2r_train.store import check_store, open_store

    result = check_store(open_store(_store_uri(uri), endpoint=endpoint))
    typer.echo(str(result))
    if not result.ok:
        raise ConfigError(f"{uri}: this store is not safe for checkpoints; use another one")


def cache_dir() -> Path:
    """Where fetched inputs are kept: ``$M2R_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("M2R_CACHE") or Path(base) / "m2r") / "inputs"


def _store_uri(given: str) -> str:
    """A plain path becomes absolute, so that a run names its results the same from anywhere."""
    return given if "://" in given else Path(given).absolute().as_uri()


def _check_writable(path: Path | None) -> None:
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: cannot be written; name a file in a folder that exists")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
