"""``deltaml audit``: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commons.command_line import DEVIATION, PASSED, UNCHECKED, UNREADABLE, app
from commons.crypto.paillier import PrivateKey
from tests.unit.audit.parties import Change, Story

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def story() -> Story:
    return Story(iterations=2, features=1, key=PrivateKey.generate(2048))


@pytest.fixture
def path(story: Story, tmp_path: Path) -> Path:
    path = tmp_path / "training.transcript"
    path.write_bytes(story.tell())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], env={"COLUMNS": "200", "TERM": "dumb"})


def test_an_honest_transcript_passes_with_a_table_of_checks(path: Path) -> None:
    done = run(path)
    assert done.exit_code == PASSED, done.output
    assert "product proofs" in done.output and "No deviation was found in anything." in done.output
    assert done.output.count("as it should be") == 13


def test_a_deviation_is_named_and_exits_with_1(story: Story, path: Path, tmp_path: Path) -> None:
    path.write_bytes(story.tell(Change("opening-settlement 2 answer", ("totals", 0), lambda total: f"1{total}")))
    done = run(path, "--json", tmp_path / "report.json")
    assert done.exit_code == DEVIATION
    assert "First deviation: the buyer (0x" in done.output and "opening-settlement 2" in done.output
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["first_deviation"]["role"] == "buyer" and not document["passed"] and document["result"] is None


def test_the_report_as_json_has_the_result(path: Path, tmp_path: Path) -> None:
    assert run(path, "--json", tmp_path / "report.json").exit_code == PASSED
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["passed"] and document["first_deviation"] is None
    assert document["result"]["trainers_answered"] == [True] * 3
    assert int(document["result"]["final_mse"]) < int(document["result"]["initial_mse"])


@pytest.mark.parametrize("content", [b"", b"not a transcript", b"DeltaML transcript 2\n" + b"\xff" * 4])
def test_what_is_no_transcript_exits_with_2(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = run(path)
    assert done.exit_code == UNREADABLE
    assert "cannot be read: " in done.output and "Traceback" not in done.output


def test_a_file_that_is_not_there_or_cannot_be_written_exits_with_2(path: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "nothing").exit_code == UNREADABLE
    assert run(tmp_path).exit_code == UNREADABLE
    done = run(path, "--json", tmp_path / "no" / "folder")
    assert done.exit_code == UNREADABLE and "cannot be written" in done.output


def test_wrong_usage_exits_with_2(path: Path) -> None:
    assert run().exit_code == UNREADABLE
    assert run(path, "--chains", NOWHERE).exit_code == UNREADABLE


@pytest.mark.parametrize("url", [NOWHERE, "nonsense", "http://"])
def test_a_chain_that_cannot_be_reached_exits_with_3_and_says_what_was_not_checked(path: Path, url: str) -> None:
    done = run(path, "--chain", url)
    assert done.exit_code == UNCHECKED, done.output
    assert done.output.count("not checked: the chain does not answer") == 5
    assert "No deviation was found in anything of what was checked." in done.output


def test_a_deviation_counts_more_than_a_chain_that_cannot_be_reached(story: Story, path: Path) -> None:
    path.write_bytes(story.tell(Change("root", ("training",), lambda training: type(training)(int=1))))
    assert run(path, "--chain", NOWHERE).exit_code == DEVIATION


def test_the_help_says_what_every_exit_status_means() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    text = " ".join(shown.output.replace("│", " ").split())
    for words in ("TRANSCRIPT", "--chain", "--json", "0 if every check", "1 if somebody", "2 if the file", "3 if all"):
        assert words in text


def test_an_audit_needs_no_database() -> None:
    code = "import sys, commons.command_line; print({'sqlalchemy', 'psycopg', 'alembic'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
