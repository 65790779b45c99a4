"""A data owner with a million rows: its memory depends on the columns, not on the rows."""

from __future__ import annotations

import http.client
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from scripts.local import flow
from scripts.local.platform import LocalPlatform, Ports

FEATURES = tuple(f"x{number}" for number in range(10))
HEADER = ",".join((*FEATURES, "target")).encode() + b"\n"
BLOCK_ROWS, BLOCKS = 10_000, 100
LIMIT_MB = 700

ORDER: dict[str, Any] = {
    "participants": {"wanted": 3, "minimum": 3},
    "hyper_parameters": {"iterations": 4, "learning_rate": 0.5, "evaluation_interval": 2},
}


def rows(count: int, seed: int) -> bytes:
    """Return lines of numbers with sixteen decimals: features in [-1, 1], then what they add up to."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(-1, 1, (count, len(FEATURES)))
    text = io.StringIO()
    np.savetxt(text, np.column_stack([features, features.sum(axis=1)]), fmt="%.16f", delimiter=",")
    return text.getvalue().encode()


def upload(owner: flow.Owner, block: bytes, times: int) -> tuple[dict[str, Any], int]:
    """Upload the block that often, as one CSV file that exists nowhere here; return the answer and the file's bytes."""
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n' + HEADER
    tail = b"\r\n--limit--\r\n"

    def parts() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield block
        yield tail

    size = len(HEADER) + times * len(block)
    headers = {
        "Content-Type": "multipart/form-data; boundary=limit",
        "Content-Length": str(len(head) + times * len(block) + len(tail)),
        **owner.authorization,
    }
    connection = http.client.HTTPConnection(urlsplit(owner.url).netloc, timeout=120)
    try:
        connection.request("POST", "/datasets", body=parts(), headers=headers)
        answer = connection.getresponse()
        content = json.load(answer)
        assert answer.status == http.HTTPStatus.CREATED, content
        return content, size
    finally:
        connection.close()


def peak_mb(group: int) -> float:
    """Return the sum over a process group of the most memory that each process has ever had resident."""
    members = [pid for pid in psutil.pids() if _group(pid) == group]
    assert members
    return sum(_peak_kb(pid) for pid in members) / 1024


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def test_owner_of_a_million_rows_trains_and_validates_in_700_mb(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, Ports.free(owners=3)) as platform:
        platform.start()
        large, *small = (flow.Owner(url, timeout=120) for url in platform.owner_urls)
        users = {owner: owner.sign_up("owner")[0] for owner in (large, *small)}
        dataset, size = upload(large, rows(BLOCK_ROWS, seed=0), BLOCKS)
        assert dataset["rows"] == BLOCK_ROWS * BLOCKS == 1_000_000
        assert size > 200e6
        for seed, owner in enumerate(small, start=1):
            owner.upload_dataset(HEADER + rows(50, seed))
        for owner, user_id in users.items():
            owner.register(user_id)
        buyer = flow.Buyer(platform.urls["buyer"])
        user_id, _ = buyer.sign_up("buyer")
        body = flow.order_for(user_id, FEATURES, **ORDER)
        body["data_requirements"]["target"]["range"] = [-10, 10]
        roles = set()
        while roles != {"TRAINER", "VALIDATOR"}:  # the chain draws: two thirds and one third
            training_id = buyer.order(body)
            for owner in (large, *small):
                owner.wait_for_status(training_id, "READY")
                owner.accept(training_id)
            buyer.wait_finished(training_id)
            roles.add(large.wait_for_status(training_id, "FINISHED")["role"])
        peak = peak_mb(platform.supervisor.pid("owner-1"))
        print(f"peak resident memory of the owner's process group: {peak:.0f} MB")
        assert peak < LIMIT_MB
        assert list((tmp_path / "owner-1" / "scratch").iterdir()) == []
        assert list((tmp_path / "tmp").iterdir()) == []
