"""Manifests whose trainer is the stand-in: what it plays stands in a URI (see standin/m2r)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode


def play(**settings: float) -> str:
    """The URI that tells the stand-in what to do, e.g. ``play(steps=5, crashAt=3)``."""
    return f"file:///standin?{urlencode(settings)}"


def rlvr(name: str = "run", *, uri: str | None = None, **spec: Any) -> dict[str, Any]:
    """An RLVRJob on the stand-in."""
    return _run("RLVRJob", name, {"dataset": {"uri": uri or play()}, **spec})


def sft(name: str = "run", *, uri: str | None = None, **spec: Any) -> dict[str, Any]:
    """An SFTJob on the stand-in."""
    return _run("SFTJob", name, {"dataset": {"uri": uri or play()}, **spec})


def evaluation(name: str = "run", *, uri: str | None = None, **spec: Any) -> dict[str, Any]:
    """An EvalJob on the stand-in."""
    benchmark = {"name": "synthetic", "data": {"uri": uri or play()}}
    return _run("EvalJob", name, {"benchmarks": [benchmark], **spec})


def synthesis(name: str = "run", *, uri: str | None = None, **spec: Any) -> dict[str, Any]:
    """A DataSynthesisJob on the stand-in."""
    source = {"name": "given", "dataset": {"uri": uri or play()}, "splits": ["rlvr"]}
    outputs = {"sft": 0, "rlvr": 9, "eval": 0}
    return _run("DataSynthesisJob", name, {"sources": [source], "outputs": outputs, **spec})


def _run(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    model = {} if kind == "DataSynthesisJob" else {"model": {"preset": "tiny"}}
    defaults = {
        "resources": {"cpu": "10m", "sharedMemory": "16Mi"},
        "disruption": {"terminationGracePeriodSeconds": 20},
    }
    return {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**model, **defaults, **spec},
    }
