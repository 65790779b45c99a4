"""Timing of several functions side by side, so that a noisy moment of the machine meets all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyperf  # type: ignore[import-untyped]

SAMPLES = 9
SAMPLE_SECONDS = 0.04

Case = Callable[[], object]


class Measurements:
    """Times of functions, in seconds, kept as pyperf benchmarks."""

    def __init__(self) -> None:
        self._benchmarks: dict[str, pyperf.Benchmark] = {}

    def measure(self, cases: Mapping[str, Case]) -> Iterator[None]:
        """Time the cases in turn, again and again; yields after every sample of a case.

        Parameters
        ----------
        cases : mapping of str to callable without parameters
            What to time, by name.
        """
        loops, values = {}, dict[str, list[float]]()
        for name, case in cases.items():
            once = _time(case, 1)  # also warms caches up
            loops[name] = max(1, math.ceil(SAMPLE_SECONDS / once))
            values[name] = []
        for _ in range(SAMPLES):
            for name, case in cases.items():
                values[name].append(_time(case, loops[name]) / loops[name])
                yield
        for name, times in values.items():
            metadata = {"name": name, "loops": loops[name], "unit": "second", "timer": "time.process_time()"}
            self._benchmarks[name] = pyperf.Benchmark([pyperf.Run(times, metadata=metadata)])

    def seconds(self, name: str) -> float:
        """Return the median time of a case."""
        return float(self._benchmarks[name].median())

    def spread(self, name: str) -> float:
        """Return the median absolute deviation of a case's times."""
        return float(self._benchmarks[name].median_abs_dev())

    def dump(self, path: Path) -> None:
        """Write everything in pyperf's format, for ``python -m pyperf show`` and ``compare_to``."""
        pyperf.BenchmarkSuite(list(self._benchmarks.values())).dump(str(path), replace=True)


def _time(case: Case, loops: int) -> float:
    # Processor time, because what else runs on the machine is none of the function's cost.
    start = time.process_time()
    for _ in range(loops):
        case()
    return time.process_time() - start
