from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from commons.errors import PeerRefused, PeerUnavailable
from scripts.local import flow

Answer = tuple[int, Any]


class FakeService(ThreadingHTTPServer):
    """Gives the answers that it was told, one a request, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeService

    def answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answers = self.server.answers
        status, document = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def model(status: str, **fields: Any) -> Answer:
    return 200, {"model": {"id": "7", "status": status, **fields}, "metrics": {"mse_history": []}}


def test_a_refusal_carries_the_problem_s_detail(service: FakeService) -> None:
    service.answers = [(422, {"type": "about:blank", "title": "Unprocessable", "detail": "range: is upside down"})]
    with pytest.raises(PeerRefused, match="/models answered 422: range: is upside down"):
        flow.Buyer(service.url).order({})


def test_nobody_there_says_what_was_called() -> None:
    with pytest.raises(PeerUnavailable, match="GET http://127.0.0.1:1/contract: no answer"):
        flow.Owner("http://127.0.0.1:1").contract()


def test_a_new_user_gets_the_service_s_own_account(service: FakeService) -> None:
    service.answers = [(201, {"id": "5"}), (200, {"token": "t0ken"}), (200, {"account": "0xabc"}), (200, {})]
    buyer = flow.Buyer(service.url)
    assert buyer.sign_up("b") == ("5", "0xabc")
    assert service.requests == ["POST /users", "POST /users/login", "GET /contract", "POST /users/5/address"]
    assert buyer.authorization == {"Authorization": "Bearer t0ken"}


def test_waiting_reports_progress_until_finished(service: FakeService) -> None:
    service.answers = [model("INITIATED"), model("IN_PROGRESS"), model("FINISHED")]
    seen: list[str] = []
    finished = flow.Buyer(service.url).wait_finished(
        "7", lambda answer: seen.append(answer["model"]["status"]), interval=0.01
    )
    assert seen == ["INITIATED", "IN_PROGRESS", "FINISHED"]
    assert finished["model"]["status"] == "FINISHED"


def test_waiting_ends_with_the_reason_when_the_training_failed(service: FakeService) -> None:
    service.answers = [model("IN_PROGRESS"), model("FAILED", reason="the step diverges")]
    with pytest.raises(flow.TrainingFailed, match="is FAILED: the step diverges"):
        flow.Buyer(service.url).wait_finished("7", interval=0.01)


def test_waiting_ends_in_time_with_the_status(service: FakeService) -> None:
    service.answers = [model("INITIATED")]
    with pytest.raises(TimeoutError, match="is INITIATED, not FINISHED"):
        flow.Buyer(service.url).wait_finished("7", timeout=0.05, interval=0.01)


def test_an_owner_may_learn_of_the_training_late(service: FakeService) -> None:
    service.answers = [(404, {"detail": "no such training"}), (200, {"id": "7", "status": "READY"})]
    assert flow.Owner(service.url).wait_for_status("7", "READY")["status"] == "READY"


def test_a_service_may_be_gone_for_a_while_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PATIENCE", 0.3)
    with pytest.raises(PeerUnavailable):
        flow.Buyer("http://127.0.0.1:1").wait_finished("7", interval=0.05)
