from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import measuring
from scripts.benchmarks.measuring import Measurements


def test_cases_are_timed_in_turn_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "SAMPLE_SECONDS", 0.0)
    calls: list[str] = []
    measurements = Measurements()
    cases = {name: lambda name=name: calls.append(name) for name in ("first", "second")}
    assert len(list(measurements.measure(cases))) == 2 * measuring.SAMPLES
    assert calls == ["first", "second"] * (1 + measuring.SAMPLES)
    assert measurements.seconds("first") >= 0
    measurements.dump(tmp_path / "samples.json")
    stored = json.loads((tmp_path / "samples.json").read_text())
    assert [benchmark["metadata"]["name"] for benchmark in stored["benchmarks"]] == ["first", "second"]
