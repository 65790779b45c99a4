"""Files that are not what they say, and bodies without an end."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
import requests

from commons.http.bodies import MESSAGEPACK
from scripts.local.flow import Json
from tests.integration.conftest import Town
from tests.integration.refusals import refused, unchanged

UPLOADS = [("owner-1", "/datasets", "scratch"), ("buyer", "/helpers/file", "files")]
"""Service, route, and folder of the service in which the file lies while it is read, or for good."""
ROWS = b"age,target\n1,2\n3,4\n"
FORM = "multipart/form-data; boundary=limit"
GIGABYTE = 2**30


def form(name: str, content: bytes = ROWS) -> bytes:
    """Return a form with one file, its name exactly as given: clients would clean it."""
    head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--limit--\r\n"


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if not path.name.startswith(("service.db", "chain.json"))}


@pytest.mark.parametrize(("service", "path", "folder"), UPLOADS)
@pytest.mark.parametrize(
    "name",
    ["../rows.csv", "../../../../tmp/rows.csv", "/tmp/rows.csv", "..", ".", "a/../../rows.csv", "..\\\\rows.csv"]
    + ["C:\\\\rows.csv", "rows.csv/", "rows\0.csv"],
)
def test_a_file_name_leads_nowhere(
    town: Town, http: requests.Session, service: str, path: str, folder: str, name: str
) -> None:
    before = files(town.platform.directory)
    with unchanged(town, service) as url:
        answer = http.post(url + path, data=form(name), headers={"Content-Type": FORM})
        assert "the file's name must" in refused(answer, 422, "file")
    assert files(town.platform.directory) == before


@pytest.mark.parametrize(("service", "path", "folder"), UPLOADS)
def test_the_name_of_a_link_is_not_followed(
    town: Town, http: requests.Session, tmp_path: Path, service: str, path: str, folder: str
) -> None:
    """Whoever has put a link where uploads lie, hoping that one is saved under its own name."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    data = town.platform.directory / service
    links = [data / folder / "link.csv", data / "link.csv"]
    for link in links:
        link.symlink_to(victim)
    try:
        answer = http.post(town.platform.urls[service] + path, data=form("link.csv"), headers={"Content-Type": FORM})
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"] == "link.csv"
        assert victim.read_text() == "untouched" and all(link.is_symlink() for link in links)
        place = f"{town.platform.urls[service]}{path}/{answer.json()['id']}"
        assert http.delete(place).status_code == 204
        assert victim.read_text() == "untouched" and all(link.is_symlink() for link in links)
    finally:
        for link in links:
            link.unlink()


def announced(url: str, headers: dict[str, str], size: int) -> tuple[int, Json]:
    """Announce a body of that many bytes, send the first thousand, and return what is answered."""
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.putrequest("POST", parts.path)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            connection.putheader(name, value)
        connection.endheaders(b"x" * 1000)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


@pytest.mark.parametrize(
    ("service", "path", "kind"),
    [(service, path, FORM) for service, path, _ in UPLOADS]
    + [("buyer", path, "application/json") for path in ("/models", "/predictions", "/users", "/users/login")],
)
def test_two_gigabytes_are_refused_before_they_are_sent(town: Town, service: str, path: str, kind: str) -> None:
    headers = {"Content-Type": kind, **town.services[service].authorization}
    with unchanged(town, service) as url:
        begun = time.monotonic()
        status, problem = announced(url + path, headers, 2 * GIGABYTE)
        assert (status, problem["status"]) == (413, 413)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("service", "path", "kind"),
    [(service, path, FORM) for service, path, _ in UPLOADS]
    + [("owner-1", "/trainings", MESSAGEPACK), ("aggregator", "/model", MESSAGEPACK)],
)
def test_two_gigabytes_of_nobody_are_not_looked_at(town: Town, service: str, path: str, kind: str) -> None:
    with unchanged(town, service) as url:
        status, _ = announced(url + path, {"Content-Type": kind}, 2 * GIGABYTE)
        assert status == 401


def test_a_body_without_a_length_ends_where_the_limit_is(town: Town) -> None:
    """In chunks, as long as somebody reads them: 16 MB are allowed here, and 2 GB would come."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"model_id": "'
        while sent < 2 * GIGABYTE:
            sent += 2**16
            yield b" " * 2**16

    headers = {"Content-Type": "application/json", **town.buyer.authorization}
    with unchanged(town, "buyer") as url, requests.Session() as http:
        http.trust_env = False
        try:
            answer = http.post(f"{url}/predictions", data=endless(), headers=headers, timeout=30)
            assert answer.status_code in (400, 413), answer.text  # 400: what was read of it is no JSON
        except requests.ConnectionError:  # it hung up while we were still talking
            pass
    assert sent < 64 * 2**20


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A Parquet file of some kilobytes that is half a billion numbers."""
    column = pl.repeat(1.0, 2**24, eager=True)
    small = io.BytesIO()
    pl.DataFrame({f"x{index}": column for index in range(33)}).write_parquet(small, row_group_size=2**24)
    assert len(small.getvalue()) < 2**22
    return small.getvalue()


@pytest.mark.parametrize(("service", "path", "folder"), UPLOADS)
def test_a_parquet_file_that_decompresses_to_gigabytes_is_refused(
    town: Town, http: requests.Session, bomb: bytes, service: str, path: str, folder: str
) -> None:
    before = files(town.platform.directory / service)
    with unchanged(town, service) as url:
        begun = time.monotonic()
        answer = http.post(url + path, files={"file": ("bomb.parquet", bomb)}, timeout=60)
        assert "more than" in refused(answer, 422, "file")
        assert time.monotonic() - begun < 20
    assert files(town.platform.directory / service) == before
