"""The Postman collection is run as it stands, from signing up to logging out, against real services."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.local.platform import REPOSITORY, LocalPlatform, Ports

COLLECTION = REPOSITORY / "scripts/postman/DeltaML.postman_collection.json"
ENVIRONMENT = REPOSITORY / "scripts/postman/DeltaML.postman_environment.json"
NOWHERE = "http://127.0.0.1:9"

Json = dict[str, Any]


def requests_of(folder: Json) -> Iterator[Json]:
    """Return the requests of a collection or a folder, at any depth."""
    for item in folder["item"]:
        yield from requests_of(item) if "item" in item else [item]


def command() -> list[str]:
    """Return the call of newman that the README shows."""
    shown = re.search(r"^node_modules/.bin/newman (?:.*\\\n)*.*", (REPOSITORY / "README.md").read_text(), re.M)
    assert shown
    return shlex.split(shown[0])


def run(directory: Path, urls: dict[str, str], iterations: int) -> tuple[subprocess.CompletedProcess[str], Json]:
    """Have newman run the collection; return how it ended, and its report."""
    rows, report = directory / "rows", directory / "newman.json"
    subprocess.run([sys.executable, "-m", "scripts.local.diabetes", str(rows)], cwd=REPOSITORY, check=True)
    values = {f"{name.replace('-', '_')}_url": url for name, url in urls.items()} | {"iterations": str(iterations)}
    done = subprocess.run(
        [
            *command(),
            *("--working-dir", str(rows), "--no-insecure-file-read", "--color", "off"),
            *("--reporters", "cli,json", "--reporter-json-export", str(report)),
            *(part for name, value in values.items() for part in ("--env-var", f"{name}={value}")),
        ],
        # Whoever calls anything but the services comes to a proxy that is none.
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done, json.loads(report.read_text()) if report.exists() else {}


def test_the_postman_collection_passes_and_every_request_of_it_is_sent(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, Ports.free()) as platform:
        platform.start()
        urls = {name: url for name, url in platform.urls.items() if name != "chain"}
        done, report = run(tmp_path, urls, iterations=5)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = report["run"]["executions"]
    assert all("response" in execution for execution in sent)
    times = Counter(execution["item"]["name"] for execution in sent)
    assert times.keys() == {request["name"] for request in requests_of(json.loads(COLLECTION.read_text()))}
    assert all(times[f"{what} an owner"] == 5 for what in ("Sign up", "Log in", "Register", "Log out"))
    untested = [execution["item"]["name"] for execution in sent if not execution.get("assertions")]
    assert untested == []
    hosts = {f"http://{'.'.join(url['host'])}:{url['port']}" for url in (each["request"]["url"] for each in sent)}
    assert hosts == set(urls.values())


def test_names_of_requests_are_unique_for_the_collection_goes_on_by_name() -> None:
    names = [request["name"] for request in requests_of(json.loads(COLLECTION.read_text()))]
    assert len(names) == len(set(names))


def test_no_secret_is_in_the_environment_and_each_is_of_type_secret() -> None:
    values = json.loads(ENVIRONMENT.read_text())["values"]
    secrets = [value for value in values if value["key"].endswith(("_password", "_token"))]
    assert len(secrets) == 14
    assert {(value["type"], value["value"]) for value in secrets} == {("secret", "")}


def test_the_environment_has_the_usual_ports() -> None:
    values = {value["key"]: value["value"] for value in json.loads(ENVIRONMENT.read_text())["values"]}
    ports = {key: urlsplit(value).port for key, value in values.items() if key.endswith("_url")}
    usual = Ports.standard().by_name()
    assert ports == {f"{name.replace('-', '_')}_url": port for name, port in usual.items() if name != "chain"}
