"""The HTTP API of a Prometheus, as far as a dashboard asks it."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = 30.0


class PrometheusError(RuntimeError):
    """It did not answer, or refused: one line with the query."""


@dataclass(frozen=True, slots=True)
class Result:
    """One series of an answer; ``points`` are (Unix seconds, value), not finite values left out."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server by its URL."""

    url: str

    def range(self, query: str, start: float, end: float, step: float) -> list[Result]:
        """The query at each ``step`` seconds; series without a finite value are left out."""
        data = self._get("query_range", query=query, start=start, end=end, step=step)
        return [r for one in data["result"] if (r := _result(one["metric"], one["values"])).points]

    def at(self, query: str, moment: float) -> list[Result]:
        """The query at one moment."""
        data = self._get("query", query=query, time=moment)
        if data["resultType"] == "scalar":
            return [_result({}, [data["result"]])]
        return [r for one in data["result"] if (r := _result(one["metric"], [one["value"]])).points]

    def samples(self, selector: str, moment: float) -> list[Result]:
        """The raw samples of a range selector (``up[5m]``) that ends at ``moment``."""
        data = self._get("query", query=selector, time=moment)
        return [_result(one["metric"], one["values"]) for one in data["result"]]

    def label_values(self, selector: str, label: str, start: float, end: float) -> list[str]:
        """What a query variable offers: the values of a label in the series of a selector."""
        found = self._get("series", **{"match[]": selector}, start=start, end=end)
        return sorted({one[label] for one in found if one.get(label)})

    def _get(self, path: str, **parameters: str | float) -> Any:
        query = urllib.parse.urlencode(parameters)
        address = f"{self.url.rstrip('/')}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(address, timeout=SECONDS) as reply:
                answer = json.loads(reply.read())
        except urllib.error.HTTPError as error:
            said = _said(error.read())
            asked = parameters.get("query") or parameters.get("match[]")
            raise PrometheusError(f"{self.url}: {said}: {asked}") from error
        except (OSError, ValueError) as error:
            raise PrometheusError(f"{self.url}: {error}") from error
        return answer["data"]


def _said(body: bytes) -> str:
    """What a refusal says: in Prometheus' own JSON, or whatever came instead, on one line."""
    text = body.decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300]


def _result(labels: Mapping[str, str], points: list[tuple[float, str]]) -> Result:
    numbers = ((float(when), float(value)) for when, value in points)
    return Result(labels, tuple(point for point in numbers if math.isfinite(point[1])))
