"""MLflow: a run in an experiment, found again by its tag."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from m2r_train.trackers.base import Tracked

_TAG = "m2r.id"
_BATCH, _PARAMS = 1000, 100  # the most that one request may hold
_LONGEST = 6000  # characters of a parameter
_ODD = re.compile(r"[^\w\-./ ]")
_T = TypeVar("_T")


class MLflow:
    """Writes to the tracking store ``uri``, or where MLflow's own variables say."""

    def __init__(self, uri: str | None, experiment: str) -> None:
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "file:./mlruns"
        if "://" not in self._uri or self._uri.startswith("file:"):
            # MLflow 3 asks for a yes to its file store, which naming one is
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(tracking_uri=self._uri)
        self._experiment = experiment

    def where(self) -> str:
        return f"mlflow ui --backend-store-uri {self._uri}"

    def write(self, run: Tracked) -> int:
        found = self._run(run)
        there = found.data.metrics
        last = {name: self._last(found.info.run_id, name) for name in there}
        now = int(time.time() * 1000)
        new = [
            (point.step, Metric(_name(name), value, now, point.step))
            for point in run.points
            for name, value in point.scalars.items()
            if point.step > last.get(_name(name), -1)
        ]
        metrics = [metric for _, metric in new]
        metrics += [
            Metric(_name(f"score/{name}"), value, now, 0)
            for name, value in run.scores.items()
            if _name(f"score/{name}") not in there
        ]
        self._put(found.info.run_id, metrics)
        self._params(found.info.run_id, run.params, found.data.params)
        self._texts(found.info.run_id, run)
        return len({step for step, _ in new})

    def _run(self, run: Tracked) -> Any:
        """The run in the tracker, made where it is not there."""
        experiment = self._client.get_experiment_by_name(self._experiment)
        number = (
            experiment.experiment_id
            if experiment is not None
            else self._client.create_experiment(self._experiment)
        )
        found = self._client.search_runs([number], f"tags.`{_TAG}` = '{run.id}'", max_results=1)
        if found:
            return found[0]
        return self._client.create_run(
            number, tags={_TAG: run.id, "m2r.kind": run.kind}, run_name=run.name
        )

    def _last(self, run_id: str, name: str) -> int:
        return max(int(m.step) for m in self._client.get_metric_history(run_id, name))

    def _put(self, run_id: str, metrics: Sequence[Metric]) -> None:
        for part in _parts(metrics, _BATCH):
            self._client.log_batch(run_id, metrics=part)

    def _params(self, run_id: str, params: Mapping[str, str], there: Iterable[str]) -> None:
        known = set(there)
        new = [
            Param(_name(name), value[:_LONGEST])
            for name, value in params.items()
            if _name(name) not in known
        ]
        for part in _parts(new, _PARAMS):
            self._client.log_batch(run_id, params=part)

    def _texts(self, run_id: str, run: Tracked) -> None:
        there = {file.path for file in self._client.list_artifacts(run_id, "samples")}
        for point in run.points:
            path = f"samples/step-{point.step:06d}.md"
            if point.texts and path not in there:
                self._client.log_text(run_id, "\n\n".join(point.texts.values()), path)


def _name(name: str) -> str:
    """A name as MLflow takes it."""
    return _ODD.sub("_", name.replace("[", ".").replace("]", ""))


def _parts(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
