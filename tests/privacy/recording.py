"""A service that writes down what passes through it: ``python -m tests.privacy.recording SERVICE --port N``.

The service is the one that ships: its ``create_app`` behind its server, in a process of its own. Only here, in the
tests, its seams are wrapped: requests that come in, requests that go out (to peers and to the chain), and every use of
a private key. The tape is the file that the environment's ``PRIVACY_TAPE`` names.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ormsgpack
import requests
from flask import Flask, has_request_context, request
from gmpy2 import mpz

from commons.crypto.paillier import PrivateKey
from commons.http.server import main
from commons.http.signatures import SIGNATURE_HEADER

PORTS = {"model_buyer": 9090, "data_owner": 5000, "federated_aggregator": 8080}

NO_ANSWER = 0

Entry = dict[str, Any]


class Tape:
    """An append-only file of entries, each with the time at which it was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, what: str, **fields: Any) -> None:
        content = ormsgpack.packb({"what": what, "time": time.time_ns(), **fields})
        with self._lock, self._path.open("ab") as file:
            file.write(len(content).to_bytes(4, "big") + content)

    def read(self) -> Iterator[Entry]:
        content = self._path.read_bytes()
        place = 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 4], "big")
            yield ormsgpack.unpackb(content[place + 4 : place + 4 + length])
            place += 4 + length


def as_bytes(value: int) -> bytes:
    return int(value).to_bytes((int(value).bit_length() + 7) // 8 or 1, "big")


def record_incoming(app: Flask, tape: Tape) -> None:
    inner = app.wsgi_app

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(asked)
        status = ""

        def start(line: str, *rest: Any) -> Any:
            nonlocal status
            status = line
            return start_response(line, *rest)

        answer = b"".join(inner(environ, start))
        call = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
        tape.write("served", **call, request=asked, status=int(status[:3]), answer=answer)
        return [answer]

    app.wsgi_app = outer  # type: ignore[method-assign]


def record_outgoing(tape: Tape) -> None:
    send = requests.Session.send

    def sending(self: requests.Session, asked: requests.PreparedRequest, **options: Any) -> requests.Response:
        body = asked.body.encode() if isinstance(asked.body, str) else asked.body or b""
        signature = asked.headers.get(SIGNATURE_HEADER)
        call = {"method": asked.method, "url": asked.url, "request": body, "signature": signature}
        try:
            answer = send(self, asked, **options)
        except requests.RequestException:
            tape.write("sent", **call, status=NO_ANSWER, answer=b"", answer_signature=None)
            raise
        signature = answer.headers.get(SIGNATURE_HEADER)
        tape.write("sent", **call, status=answer.status_code, answer=answer.content, answer_signature=signature)
        return answer

    patch.object(requests.Session, "send", sending).start()


def record_keys(tape: Tape) -> None:
    """Write down the primes of every private key, and every plaintext and root that one gives, with what it was for."""
    make, decrypt, opening = PrivateKey.__init__, PrivateKey.decrypt, PrivateKey.opening
    decrypt_short = PrivateKey.decrypt_short
    nth_root, fourth_root = PrivateKey.nth_root, PrivateKey.fourth_root

    def write(by: str, key: PrivateKey, ciphertext: mpz, plaintext: int) -> None:
        tape.write(
            by,
            modulus=as_bytes(key.public_key.n),
            endpoint=request.endpoint if has_request_context() else None,
            path=request.path if has_request_context() else None,
            ciphertext=as_bytes(ciphertext),
            plaintext=as_bytes(plaintext),
        )

    def making(self: PrivateKey, p: int, q: int) -> None:
        make(self, p, q)
        tape.write("key", primes=[as_bytes(p), as_bytes(q)])

    def decrypting(self: PrivateKey, ciphertext: mpz) -> int:
        plaintext = decrypt(self, ciphertext)
        write("decrypted", self, ciphertext, plaintext)
        return plaintext

    def decrypting_short(self: PrivateKey, ciphertext: mpz) -> int:
        plaintext = decrypt_short(self, ciphertext)
        write("decrypted", self, ciphertext, plaintext)
        return plaintext

    def open_(self: PrivateKey, ciphertext: mpz) -> tuple[int, int]:
        plaintext, randomiser = opening(self, ciphertext)
        write("opened", self, ciphertext, plaintext)
        return plaintext, randomiser

    def rooting(self: PrivateKey, number: mpz) -> mpz:
        root = nth_root(self, number)
        write("rooted", self, number, int(root))
        return root

    def fourth_rooting(self: PrivateKey, number: mpz) -> mpz | None:
        root = fourth_root(self, number)
        write("fourth rooted", self, number, int(root or 0))
        return root

    patch.multiple(
        PrivateKey,
        __init__=making,
        decrypt=decrypting,
        decrypt_short=decrypting_short,
        opening=open_,
        nth_root=rooting,
        fourth_root=fourth_rooting,
    ).start()


def run(service: str) -> None:
    tape = Tape(Path(os.environ["PRIVACY_TAPE"]))
    record_outgoing(tape)
    record_keys(tape)
    create_app = importlib.import_module(f"{service}.app").create_app

    def create(config: Any) -> Flask:
        app: Flask = create_app(config)
        record_incoming(app, tape)
        return app

    main(service, create, importlib.import_module(f"{service}.config").Config, PORTS[service])


if __name__ == "__main__":
    run(sys.argv.pop(1))
