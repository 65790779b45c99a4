"""The crowd of the benchmark asks as often as it says, and notices what goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts.benchmarks.polling import PERIOD_S, Seen, watched

CLIENTS = 4


class Server(ThreadingHTTPServer):
    """Answers with a status, and counts who asks."""

    def __init__(self) -> None:
        self.status, self.tokens, self.connections = 200, list[str](), set[tuple[str, int]]()
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.tokens.append(self.headers["Authorization"])
        self.server.connections.add(self.client_address)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, args=[0.01], daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_every_client_asks_once_a_period_on_its_own_connection(server: Server) -> None:
    seen = Seen()
    with watched(f"http://127.0.0.1:{server.server_port}/", {"Authorization": "token"}, CLIENTS, seen):
        deadline = time.monotonic() + 60
        while len(server.tokens) < 3 * CLIENTS and time.monotonic() < deadline:
            time.sleep(PERIOD_S / 10)
    assert 3 * CLIENTS <= len(seen.seconds) <= 5 * CLIENTS
    assert seen.errors == []
    assert set(server.tokens) == {"token"} and len(server.connections) == CLIENTS


def test_refusals_are_errors(server: Server) -> None:
    seen = Seen()
    server.status = 503
    with watched(f"http://127.0.0.1:{server.server_port}/", {}, CLIENTS, seen):
        deadline = time.monotonic() + 60
        while len(server.tokens) < CLIENTS and time.monotonic() < deadline:
            time.sleep(PERIOD_S / 10)
    assert len(seen.errors) == len(seen.seconds) >= CLIENTS
    assert set(seen.errors) == {"503, 2 bytes"}
