"""The eight benchmarks by name."""

from __future__ import annotations

from m2r_train.benchmarks import (
    cvbench,
    dynamath,
    logicvista,
    mathverse,
    mathvision,
    mathvista,
    vsibench,
    wemath,
)
from m2r_train.benchmarks.base import Benchmark

_MODULES = (mathvista, mathvision, mathverse, dynamath, wemath, logicvista, cvbench, vsibench)

BENCHMARKS: dict[str, Benchmark] = {m.BENCHMARK.name: m.BENCHMARK for m in _MODULES}
