"""``m2r card``: an exported model's card with the scores that came after it."""

from __future__ import annotations

from collections.abc import Iterable

from m2r_train.api.errors import DataError
from m2r_train.report.cards import CARD
from m2r_train.report.modelcard import with_scores
from m2r_train.reporting import StoredRun, find_runs

_RESULTS = "eval/results.json"


def scored_card(model: str, scores: Iterable[str], *, endpoint: str | None = None) -> str:
    """The card of the run at ``model``, with the scores of the EvalJobs at ``scores`` of it.

    Raises:
        DataError: not one run with a model, none of it evaluated, or a card of another's making.
    """
    runs = [
        r for r in find_runs([model], endpoint=endpoint) if r.spec.kind in ("SFTJob", "RLVRJob")
    ]
    if len(runs) != 1:
        raise DataError(f"{model}: {len(runs)} runs with models are here; name one run's folder")
    run = runs[0]
    card = run.bytes(f"model/{CARD}")
    if card is None:
        raise DataError(f"{run.store.uri}: no model/{CARD} yet; let the run end")
    evaluated = [r for r in find_runs(scores, endpoint=endpoint) if _evaluates(r, run)]
    results = {r.spec.metadata.name: r.json(_RESULTS) for r in evaluated}
    if not results:
        raise DataError(
            f"{run.store.uri}: no finished EvalJob of this model was found; name their folders, or "
            "the store that holds them, by --scores"
        )
    return with_scores(card.decode("utf-8", "replace"), results)


def _evaluates(run: StoredRun, model: StoredRun) -> bool:
    given = run.spec.inputs.get("model")
    return (
        run.spec.kind == "EvalJob"
        and given is not None
        and given.uri == f"{model.store.uri}/model"
        and run.store.exists(_RESULTS)
    )
