"""Take every defence out, one at a time, and see the test of its attack fail.

``python -m tests.attacks.mutations`` copies the tree to a temporary folder, changes a file there, compiles the contract
again if it is one of Solidity, and runs the one test, which has to fail: it then tests something. Words choose the
attacks that have them (``… mutations deadline``). When all were run, ``--write`` puts the table into
docs/security-tests.md. It takes some minutes, and is run by hand, on a checkout that ``scripts/setup`` was run in;
that every text still is where the list says is tested with everything else.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.attacks.defences import DEFENCES, Defence

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "security-tests.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
LINKED = (".venv", "node_modules")
PATIENCE_S = 300


class StillPasses(Exception):
    """A test passes although what it tests was taken out, or did not come so far."""


def table(defences: Sequence[Defence]) -> str:
    """Return the table of attacks as the document has it."""
    lines = [
        "| attack | what the attacker sees | the defence | without it | the test that then fails |",
        "|---|---|---|---|---|",
    ]
    for each in defences:
        file, _, name = each.test.partition("::")
        name = name.partition("[")[0].replace("::", ".")
        test = f"[`{name}`](../{file})"
        lines.append(f"| {each.attack} | {each.seen} | `{each.file}`: `{each.function}` | {each.without} | {test} |")
    return "\n".join(lines)


def write(defences: Sequence[Defence]) -> None:
    """Put the table into the document."""
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(defences)}\n{END}{after}")


def copy_tree(to: Path) -> None:
    """Copy what git knows of the checkout, as it is now, and link what was installed in it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, to / name
        if source.is_file() and name not in LINKED:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for name in LINKED:
        (to / name).symlink_to((ROOT / name).resolve())


def try_without(defence: Defence) -> str:
    """Run a defence's test without it, and return what pytest says of the failure; StillPasses if there is none."""
    with tempfile.TemporaryDirectory(prefix="deltaml-without-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        copy_tree(tree)
        for edit in defence.edits:
            path = tree / edit.file
            path.write_text(edit.applied(path.read_text()))
        python = str(ROOT / ".venv" / "bin" / "python")
        if any(edit.file.endswith(".sol") for edit in defence.edits):
            subprocess.run([python, "-m", "commons.chain.compiler"], cwd=tree, check=True, capture_output=True)
        run = subprocess.run(
            [python, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider", defence.test],
            cwd=tree, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        *_, summary = run.stdout.strip().splitlines() or ["nothing"]
        if run.returncode != 1 or not re.search(r"\b[1-9][0-9]* failed\b", summary):
            raise StillPasses(
                f"{defence.attack}: without {defence.without}: {summary}\n{run.stdout[-3000:]}{run.stderr[-500:]}"
            )
        return summary


def main() -> int:
    """Run the command; 0 if every test failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.mutations", description=__doc__)
    parser.add_argument("words", nargs="*", help="try only the attacks that have one of these words")
    parser.add_argument("--write", action="store_true", help="put the table into docs/security-tests.md")
    options = parser.parse_args()
    chosen = [d for d in DEFENCES if not options.words or any(word in f"{d.attack} {d.test}" for word in options.words)]
    passing = []
    for defence in chosen:
        begun = time.monotonic()
        try:
            what = try_without(defence)
        except (StillPasses, subprocess.SubprocessError) as error:
            passing.append(defence)
            what = f"NOT FAILED: {error}"
        print(f"{defence.attack}\n    {defence.test}\n    {what} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"{len(chosen) - len(passing)} of {len(chosen)} tests fail without their defence")
    if options.write and not passing and not options.words:
        write(DEFENCES)
    return 1 if passing else 0


if __name__ == "__main__":
    sys.exit(main())
