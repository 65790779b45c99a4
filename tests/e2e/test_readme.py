"""The README's flow is run as it stands, on the ports that it names."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

from scripts.local.platform import REPOSITORY, LocalPlatform, PortInUse, Ports


def flow() -> str:
    """Return the bash blocks of the README's flow as one script."""
    section = (REPOSITORY / "README.md").read_text().split("## A training, step by step")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, flags=re.S))


def on_free_ports(script: str) -> tuple[str, Ports]:
    """Move the script's ports, if somebody else uses them, without changing anything else."""
    for ports in (Ports.standard(), *(Ports.consecutive(base) for base in range(21_000, 29_000, 500))):
        with contextlib.suppress(PortInUse):
            ports.require_free()
            break
    moved = {"4999": ports.owners[0] - 1, "5000": ports.owners[0], "8080": ports.aggregator, "9090": ports.buyer}
    return re.sub("|".join(moved), lambda found: str(moved[found.group()]), script), ports


def test_the_flow_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    script, ports = on_free_ports(flow())
    script = script.replace("./scripts/setup && ", "").replace("diabetes rows", f"diabetes {tmp_path}/rows")
    script = script.replace("@rows/", f"@{tmp_path}/rows/").replace('"iterations": 100', '"iterations": 10')
    script = script.replace("-o model.json", f"-o {tmp_path}/model.json")
    with LocalPlatform(tmp_path, ports) as platform:
        platform.start()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("True") == 5
    assert done.stdout.count("INITIATED") == 5
    assert '"status": "FINISHED"' in done.stdout
    assert len(json.loads((tmp_path / "model.json").read_text())["coef_"]) == 10
    assert "must be below the upper bound" in done.stdout
