"""A signed request that somebody has seen: sent again, sent elsewhere, cut, changed, kept for later.

It is one that is answered: a notice by an aggregator to an owner, about its own training.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests

from commons.http.bodies import MESSAGEPACK
from commons.http.request_signing import RequestSigner, content_digest
from commons.http.signatures import SIGNATURE_HEADER, encode_signature
from commons.protocol.messages import LocalModelQuestion, Notice
from tests.attacks.people import Rogue
from tests.integration.conftest import Town
from tests.integration.refusals import refused, unchanged

Signed = requests.PreparedRequest
WORDS = "a new block"


@pytest.fixture
def line(town: Town) -> Iterator[requests.Session]:
    """The wire: it sends what it is given, and adds nothing."""
    with unchanged(town, "owner-1"), requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def make(town: Town, rogue: Rogue) -> Callable[..., Signed]:
    """Make a notice as the aggregator signs it."""

    def made(owner: str = "owner-1", clock: Callable[[], float] = time.time) -> Signed:
        message = Notice(training=rogue.training, reason=WORDS)
        assert rogue.aggregator.account is not None
        signature = encode_signature(rogue.voice(rogue.aggregator).signer.sign(message).signature)
        return requests.Request(
            "PATCH",
            f"{town.platform.urls[owner]}/trainings/{rogue.training}",
            data=message.pack(),
            headers={"Content-Type": MESSAGEPACK, SIGNATURE_HEADER: signature},
            auth=RequestSigner(rogue.aggregator.account, clock),
        ).prepare()

    return made


def test_a_signed_request_is_answered_once(line: requests.Session, make: Callable[..., Signed]) -> None:
    seen = make()
    assert line.send(seen).status_code == 200
    for _ in range(3):
        assert "the nonce" in refused(line.send(seen), 401)
    assert line.send(make()).status_code == 200


def test_a_signed_request_is_answered_once_although_the_service_was_killed(
    town: Town, line: requests.Session, make: Callable[..., Signed]
) -> None:
    seen = make()
    assert line.send(seen).status_code == 200
    town.platform.restart("owner-1")
    assert "sign the request again" in refused(line.send(seen), 503)
    assert line.send(make()).status_code == 200


def test_a_signed_request_is_answered_by_who_it_is_for(
    town: Town, line: requests.Session, make: Callable[..., Signed]
) -> None:
    """Even if it is said, in the header that proxies believe, to be for somebody else."""
    for host in (None, urlsplit(town.platform.urls["owner-2"]).netloc):
        seen = make("owner-2")
        seen.url = make("owner-1").url
        if host is not None:
            seen.headers["Host"] = host
            seen.headers["X-Forwarded-Host"] = host
        assert "signed for another service" in refused(line.send(seen), 401)


CHANGES: dict[str, Callable[[Signed], object]] = {
    "method": lambda seen: setattr(seen, "method", "PUT"),
    "path": lambda seen: setattr(seen, "url", str(seen.url).replace("/trainings/", "/models/../trainings/")),
    "query": lambda seen: setattr(seen, "url", f"{seen.url}?round=1"),
    "training": lambda seen: setattr(seen, "url", str(seen.url)[:-12] + uuid.uuid4().hex[:12]),
    "type": lambda seen: seen.headers.update({"Content-Type": "application/json"}),
    "message's signature": lambda seen: seen.headers.update({SIGNATURE_HEADER: "0x" + "11" * 65}),
    "no message's signature": lambda seen: seen.headers.pop(SIGNATURE_HEADER),
    "no digest": lambda seen: seen.headers.pop("Content-Digest"),
    "no signature": lambda seen: seen.headers.pop("Signature"),
    "no input": lambda seen: seen.headers.pop("Signature-Input"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_signed_request_counts_for_what_it_asks(
    line: requests.Session, make: Callable[..., Signed], change: str
) -> None:
    seen = make()
    CHANGES[change](seen)
    refused(line.send(seen), 404 if change == "path" else 401)


@pytest.mark.parametrize("cut", [1, 20, "all"])
def test_a_signed_request_is_not_truncated(line: requests.Session, make: Callable[..., Signed], cut: int | str) -> None:
    seen = make()
    assert isinstance(seen.body, bytes)
    seen.body = b"" if cut == "all" else seen.body[: -int(cut)]
    seen.headers["Content-Length"] = str(len(seen.body))
    assert "Content-Digest is" in refused(line.send(seen), 401)
    seen.headers["Content-Digest"] = content_digest(seen.body)
    assert "is not the signature of" in refused(line.send(seen), 401)


def test_a_signed_request_has_no_other_words(line: requests.Session, make: Callable[..., Signed]) -> None:
    seen = make()
    assert isinstance(seen.body, bytes)
    seen.body = seen.body.replace(WORDS.encode(), WORDS[::-1].encode())
    assert "Content-Digest is" in refused(line.send(seen), 401)


@pytest.mark.parametrize(("seconds", "words"), [(-121, "too old"), (-3600, "too old"), (30, "from the future")])
def test_a_signed_request_is_of_now(
    line: requests.Session, make: Callable[..., Signed], seconds: float, words: str
) -> None:
    assert words in refused(line.send(make(clock=lambda: time.time() + seconds)), 401)


def test_a_message_is_not_passed_on_by_somebody_else(
    town: Town, line: requests.Session, rogue: Rogue, make: Callable[..., Signed]
) -> None:
    """Nor under another request of its own: the message's signature alone opens nothing."""
    seen = make()
    for account in (town.platform.accounts["owner-2"], town.platform.accounts["buyer"], rogue.buyer.account):
        assert account is not None
        headers = {"Content-Type": MESSAGEPACK, SIGNATURE_HEADER: seen.headers[SIGNATURE_HEADER]}
        answer = line.patch(str(seen.url), data=seen.body, headers=headers, auth=RequestSigner(account))
        assert f"this is for {rogue.address} to ask" in refused(answer, 403)


def test_a_message_is_not_taken_for_one_of_another_kind(
    town: Town, line: requests.Session, rogue: Rogue, make: Callable[..., Signed]
) -> None:
    """A notice's signature on a question for the local model, of the same bytes but for a word."""
    assert rogue.aggregator.account is not None
    headers = {"Content-Type": MESSAGEPACK, SIGNATURE_HEADER: make().headers[SIGNATURE_HEADER]}
    question = LocalModelQuestion(training=rogue.training)
    answer = line.post(
        str(make().url), data=question.pack(), headers=headers, auth=RequestSigner(rogue.aggregator.account)
    )
    refused(answer, 403)
