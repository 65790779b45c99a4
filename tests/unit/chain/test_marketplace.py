"""What the gateway makes of a node that misbehaves: a real socket, scripted answers."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_account import Account

import commons.chain.marketplace as gateway
from commons.chain.marketplace import ChainUnavailable, Event, InsufficientFunds, Marketplace, Reverted, Role

ADDRESS = "0x" + "11" * 20
Answer = Callable[[str, list[Any]], dict[str, Any] | bytes]


@pytest.fixture
def node() -> Iterator[Callable[[Answer], str]]:
    """Start a node that answers each method as it is told; its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                several = isinstance(request, list)
                bodies = [
                    (each["id"], answer(each["method"], each["params"])) for each in (request if several else [request])
                ]
                body = bodies[0][1]
                if isinstance(body, dict):
                    told = [
                        {"jsonrpc": "2.0", "id": number, **each} for number, each in bodies if isinstance(each, dict)
                    ]
                    body = json.dumps(told if several else told[0]).encode()
                with suppress(ConnectionError):  # the caller may have lost its patience
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def calls(marketplace: Marketplace) -> list[Callable[[], object]]:
    return [
        lambda: marketplace.chain_id,
        marketplace.now,
        marketplace.verify,
        lambda: marketplace.role(ADDRESS),
        lambda: marketplace.balance(ADDRESS),
        lambda: marketplace.register(Role.DATA_OWNER),
        lambda: marketplace.events(uuid.UUID(int=7)),
        lambda: marketplace.transactions([Event("TrainingFinished", {}, "0x" + "ab" * 32, "0x" + "cd" * 32, 5, 0)]),
    ]


def test_a_node_that_is_down_is_unavailable_and_its_url_is_not_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    marketplace = Marketplace(f"http://127.0.0.1:{port}/secret", ADDRESS, Account.create())
    for call in calls(marketplace):
        with pytest.raises(ChainUnavailable) as caught:
            call()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>Bad gateway</html>", id="no JSON"),
        pytest.param(b"{}", id="no JSON-RPC"),
        pytest.param({"error": {"code": -32005, "message": "limit exceeded"}}, id="an error"),
    ],
)
def test_a_node_that_answers_nonsense_is_unavailable(
    node: Callable[[Answer], str], body: dict[str, Any] | bytes
) -> None:
    marketplace = Marketplace(node(lambda method, parameters: body), ADDRESS, Account.create())
    for call in calls(marketplace):
        with pytest.raises(ChainUnavailable):
            call()


def test_a_node_that_is_slow_is_unavailable(node: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "REQUEST_TIMEOUT", 0.1)
    enough = threading.Event()

    def stall(method: str, parameters: list[Any]) -> bytes:
        enough.wait(5)
        return b""

    marketplace = Marketplace(node(stall), ADDRESS)
    with pytest.raises(ChainUnavailable):
        marketplace.now()
    enough.set()


class Chain:
    """A chain without base fees that accepts one transaction, and fails or forgets it."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.sent: list[str] = []
        self.answers: dict[str, dict[str, Any]] = {
            "eth_chainId": {"result": "0x1"},
            "eth_estimateGas": {"result": hex(40_000)},
            "eth_getBlockByNumber": {"result": {"number": "0x5", "timestamp": "0x6"}},
            "eth_gasPrice": {"result": hex(3 * 10**9)},
            "eth_getTransactionCount": {"result": "0x7"},
            "eth_sendRawTransaction": {"result": "0x" + "ab" * 32},
            **answers,
        }

    def __call__(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        if method == "eth_sendRawTransaction":
            self.sent.append(parameters[0])
        return self.answers[method]


def receipt(status: int) -> dict[str, Any]:
    return {
        "result": {
            "transactionHash": "0x" + "ab" * 32,
            "blockNumber": "0x6",
            "gasUsed": "0x9c40",
            "status": hex(status),
            "logs": [],
        }
    }


def test_a_chain_without_base_fees_is_paid_by_gas_price(node: Callable[[Answer], str]) -> None:
    """The transaction is signed here, for this chain; a receipt without an event is no marketplace's."""
    chain = Chain(eth_getTransactionReceipt=receipt(1))
    account = Account.create()
    with pytest.raises(gateway.NoContract):
        Marketplace(node(chain), ADDRESS, account).register(Role.DATA_OWNER)
    [raw] = chain.sent
    assert Account.recover_transaction(raw) == account.address
    # A legacy transaction is a bare list; a typed one begins with its type.
    assert int(raw[2:4], 16) >= 0xC0


def test_a_transaction_that_fails_without_a_reason_is_reverted(node: Callable[[Answer], str]) -> None:
    chain = Chain(eth_getTransactionReceipt=receipt(0), eth_call={"result": "0x"})
    with pytest.raises(Reverted) as caught:
        Marketplace(node(chain), ADDRESS, Account.create()).register(Role.DATA_OWNER)
    assert (caught.value.name, caught.value.arguments) == ("", {})


def test_a_transaction_that_fails_when_mined_is_asked_why(node: Callable[[Answer], str]) -> None:
    reason = "0x08c379a0" + f"{32:064x}" + f"{4:064x}" + b"nope".hex().ljust(64, "0")
    error = {"error": {"code": 3, "message": "execution reverted: nope", "data": reason}}
    chain = Chain(eth_getTransactionReceipt=receipt(0), eth_call=error)
    with pytest.raises(Reverted) as caught:
        Marketplace(node(chain), ADDRESS, Account.create()).register(Role.DATA_OWNER)
    assert (caught.value.name, caught.value.arguments) == ("Error", {"reason": "nope"})


def test_a_receipt_that_never_comes_is_given_up(node: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "RECEIPT_TIMEOUT", 0.1)
    chain = Chain(eth_getTransactionReceipt={"result": None})
    with pytest.raises(ChainUnavailable, match="0x" + "ab" * 32):
        Marketplace(node(chain), ADDRESS, Account.create()).register(Role.DATA_OWNER)
    assert len(chain.sent) == 1


@pytest.mark.parametrize("method", ["eth_estimateGas", "eth_sendRawTransaction"])
def test_every_nodes_words_for_too_little_ether_are_understood(node: Callable[[Answer], str], method: str) -> None:
    message = "insufficient funds for gas * price + value: address 0x1 have 0 want 1"
    chain = Chain(**{method: {"error": {"code": -32000, "message": message}}})
    with pytest.raises(InsufficientFunds):
        Marketplace(node(chain), ADDRESS, Account.create()).register(Role.DATA_OWNER)
