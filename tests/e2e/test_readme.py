"""The README's flow is run as it stands, on the ports that it names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from scripts.local.platform import REPOSITORY, LocalPlatform, PortInUse, Ports


def flow() -> str:
    """Return the bash blocks of the README's flow as one script."""
    section = (REPOSITORY / "README.md").read_text().split("## A training, step by step")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, flags=re.S))


def test_the_flow_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    ports = Ports.standard()
    try:
        ports.require_free()
    except PortInUse as error:
        pytest.skip(f"the README's ports are needed: {error}")
    script = flow().replace("./scripts/setup", f"{REPOSITORY}/scripts/setup").replace(".venv", f"{REPOSITORY}/.venv")
    script = script.replace("-m scripts.local.diabetes rows", f"-m scripts.local.diabetes {tmp_path}/rows")
    script = script.replace("file=@rows/", f"file=@{tmp_path}/rows/").replace('"iterations": 100', '"iterations": 10')
    with LocalPlatform(tmp_path, ports) as platform:
        platform.start()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("True") == 5
    assert done.stdout.count("INITIATED") == 5
    assert '"status": "FINISHED"' in done.stdout
    assert "must be below the upper bound" in done.stdout
