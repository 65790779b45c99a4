"""The demo with a party that cheats, as it is started from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from scripts.local.cheats import CHEATS
from scripts.local.platform import REPOSITORY, Ports


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "scripts.local", *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)


def free_base() -> str:
    """Return a port with seven free ones after it."""
    for base in range(21_000, 29_000, 500):
        try:
            Ports.consecutive(base).require_free()
        except Exception:
            continue
        return str(base)
    raise AssertionError("no ports are free")


def test_the_demo_lists_all_cheats() -> None:
    done = demo("--cheat", "list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if "=" in line] == [cheat.name for cheat in CHEATS]


def test_a_cheat_that_is_none_is_refused_with_the_names_of_all() -> None:
    done = demo("--cheat", "buyer=runs-away")
    assert done.returncode == 2
    assert "buyer=refuses-finish" in done.stderr


def test_the_demo_tells_who_caught_a_cheat_and_what_it_paid(tmp_path: Path) -> None:
    file = tmp_path / "story.json"
    done = demo("--port-base", free_base(), "--cheat", "aggregator=swaps-contributions", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    story = json.loads(file.read_text())
    assert (story["as_designed"], story["problems"], story["status"]) == (True, [], "FINISHED")
    assert story["dispute"]["outcome"] == "CORRECTED"
    assert "Decision: CORRECTED" in story["dispute"]["arbiter_said"]
    assert story["dispute"]["evidence_hash"] in done.stdout
    assert sum(story["payouts_wei"].values()) == sum(story["honest_payouts_wei"].values()) == 5 * 10**18
    told = [event["what"] for event in story["events"]]
    assert any("contribution of owner-" in what for what in told)
    assert story["verdict"] in done.stdout
