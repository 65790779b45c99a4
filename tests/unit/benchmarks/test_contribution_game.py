from __future__ import annotations

import pytest

from scripts.benchmarks.contribution_game import CHANGED, LABELS, comparisons, table


def test_shares_are_within_half_a_percent_of_retraining_every_coalition() -> None:
    seen = []
    for name, retrained, ours, classic in comparisons():
        seen.append(name)
        assert ours == pytest.approx(retrained, abs=0.005)
        assert sum(ours) == pytest.approx(1)
        if name == "clean":
            continue
        # Spoilt labels earn the least, where the formula of 2019 pays most for them.
        assert min(ours) == ours[CHANGED]
        assert max(classic) == classic[CHANGED]
    assert seen == list(LABELS)


def test_the_table_has_a_row_for_every_owner_and_change() -> None:
    lines = table().splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 4 * len(LABELS)
    assert lines[-1].startswith("Largest difference")
