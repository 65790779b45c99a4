"""Messages of EIP-4361: one reading each, and only for this service, this chain, this purpose, now, and once."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest
from eth_account.messages import encode_defunct
from hypothesis import assume, given
from hypothesis import strategies as st

from commons.errors import InvalidInput, VerificationFailed
from commons.users.wallet import LIFETIME_S, LOGIN, MAX_AHEAD_S, Message, Nonces, SignIn, linking
from tests.unit.users.service import CHAIN_ID, URL, Clock, signed, wallet

WALLET, OTHER = wallet(1), wallet(2)

EXAMPLE = """\
service.invalid wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ServiceOrg Terms of Service: https://service.invalid/tos

URI: https://service.invalid/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""


def test_example_of_the_specification_is_read() -> None:
    message = Message.parse(EXAMPLE)
    assert message == Message(
        domain="service.invalid",
        address="0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        statement="I accept the ServiceOrg Terms of Service: https://service.invalid/tos",
        uri="https://service.invalid/login",
        chain_id=1,
        nonce="32891756",
        issued_at="2021-09-30T16:25:24Z",
        resources=(
            "ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
            "https://example.com/my-web2-claim.json",
        ),
    )
    assert str(message) == EXAMPLE


letters = string.ascii_letters + string.digits
uris = st.builds("{}:{}".format, st.sampled_from(["https", "ipfs", "did"]), st.text(letters + "/-._~:?#[]@!$&'()*+,;="))
moments = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.isoformat().replace("+00:00", "Z") if moment.year % 2 else moment.isoformat()
)
messages = st.builds(
    Message,
    domain=st.text(letters + "-.:", min_size=1),
    address=st.integers(min_value=1, max_value=2**64).map(lambda number: wallet(number).address),
    uri=uris,
    chain_id=st.integers(min_value=0, max_value=10**30),
    nonce=st.text(letters, min_size=8, max_size=128),
    issued_at=moments,
    statement=st.none() | st.text(letters + " -._~:/?#[]@!$&'()*+,;=", min_size=1),
    scheme=st.none() | st.sampled_from(["http", "https"]),
    expiration_time=st.none() | moments,
    not_before=st.none() | moments,
    request_id=st.none() | st.text(letters + "-._~!$&'()*+,;=:@"),
    resources=st.none() | st.lists(uris, max_size=3).map(tuple),
)


@given(messages)
def test_message_is_read_as_it_was_written(message: Message) -> None:
    assert Message.parse(str(message)) == message


@given(messages, st.data())
def test_text_has_one_reading_and_a_reading_one_text(message: Message, data: st.DataObject) -> None:
    text = str(message)
    place = data.draw(st.integers(min_value=0, max_value=len(text)))
    length = data.draw(st.integers(min_value=0, max_value=3))
    other = text[:place] + data.draw(st.text(max_size=3)) + text[place + length :]
    assume(other != text)
    try:
        read = Message.parse(other)
    except InvalidInput:
        return
    assert read != message
    assert str(read) == other


@given(st.text() | st.text("0xURI: \n") | st.binary().map(lambda data: data.decode("latin-1")))
def test_garbage_is_refused_in_plain_words(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no message of EIP-4361"):
        Message.parse(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 1", "Version: 2"),
        ("Version: 1", "version: 1"),
        ("Version: 1\n", ""),
        ("URI: ", "URI:"),
        ("URI: https://service.invalid/login\nVersion: 1", "Version: 1\nURI: https://service.invalid/login"),
        ("Chain ID: 1", "Chain ID: 01"),
        ("Chain ID: 1", "Chain ID: -1"),
        ("Chain ID: 1", "Chain ID: ١"),
        ("Chain ID: 1", "Chain ID: " + "9" * 79),
        ("Nonce: 32891756", "Nonce: 3289175"),
        ("Nonce: 32891756", "Nonce: 3289175-6"),
        ("Nonce: 32891756", "Nonce: 32891756\nNonce: 32891756"),
        ("2021-09-30T16:25:24Z", "2021-09-30 16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30T16:25:24"),
        ("2021-09-30T16:25:24Z", "2021-09-31T16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30T16:25:60Z"),
        ("\nResources", "\nNot Before: 2021-09-30T16:25:24Z\nExpiration Time: 2021-09-30T16:25:24Z\nResources"),
        ("\nResources", "\nRequest ID: a b\nResources"),
        ("- https://example.com", "-https://example.com"),
        ("- https://example.com/my-web2-claim.json", "- no uri"),
        ("I accept", "I\naccept"),
        ("I accept", "\nI accept"),
        ("I accept", 'I "accept"'),
        ("I accept", "I accept\r"),
        ("service.invalid wants", "service.invalid/x wants"),
        ("service.invalid wants", " wants"),
        ("service.invalid wants", "evil.invalid\nservice.invalid wants"),
        ("0xC02aaA39", "0xc02aaA39"),
        ("0xC02aaA39", "0XC02aaA39"),
        ("sign in", "Sign in"),
    ],
)
def test_anything_but_the_grammar_is_refused(old: str, new: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(InvalidInput):
        Message.parse(EXAMPLE.replace(old, new, 1))


@pytest.mark.parametrize("more", ["\n", "\n\n", " ", "\x00", "\n- x", "\nURI: https://evil.invalid/"])
def test_nothing_may_follow(more: str) -> None:
    with pytest.raises(InvalidInput):
        Message.parse(EXAMPLE + more)


# Verifying


class Scene:
    """A service, and what a wallet may sign for it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.service = SignIn(URL, lambda: CHAIN_ID, self.clock.now)

    def offer(self, statement: str = LOGIN) -> Message:
        return self.service.offer(WALLET.address, statement)

    def verify(self, message: Message | str, by: Any = WALLET, statement: str = LOGIN) -> str:
        text = str(message)
        return self.service.verify(text, bytes.fromhex(signed(text, by)[2:]), statement)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def moment(scene: Scene, **later: float) -> str:
    return (scene.clock.now() + timedelta(**later)).isoformat()


def test_offer_that_is_signed_says_whose_wallet_it_was(scene: Scene) -> None:
    assert scene.verify(scene.offer()) == WALLET.address
    text = str(scene.offer())
    as_wallets_sign = WALLET.sign_message(encode_defunct(text=text)).signature
    assert scene.service.verify(text, bytes(as_wallets_sign), LOGIN) == WALLET.address


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "evil.example"},
        {"domain": "buyer.example:443"},
        {"domain": "buyer.example.evil.example"},
        {"domain": "buyer.example@evil.example"},
        {"scheme": "http"},
        {"uri": "https://evil.example"},
        {"uri": URL + ".evil.example"},
        {"uri": "http://buyer.example"},
        {"chain_id": 1},
        {"statement": None},
        {"statement": "I accept"},
        {"statement": linking("7")},
        {"address": OTHER.address},
        {"nonce": "0" * 64},
        {"nonce": "abcdefgh"},
    ],
)
def test_message_for_anybody_or_anything_else_is_refused(scene: Scene, change: dict[str, Any]) -> None:
    offer = scene.offer()
    with pytest.raises(VerificationFailed):
        scene.verify(replace(offer, **change))
    assert scene.verify(offer) == WALLET.address  # and its nonce is not used up


@pytest.mark.parametrize("change", [{"scheme": "https"}, {"request_id": "7"}, {"resources": ("https://a.example",)}])
def test_message_may_say_more_than_it_must(scene: Scene, change: dict[str, Any]) -> None:
    assert scene.verify(replace(scene.offer(), **change)) == WALLET.address


def test_message_counts_for_five_minutes_by_both_clocks(scene: Scene) -> None:
    offer = scene.offer()
    for later in (-LIFETIME_S - 1, MAX_AHEAD_S + 1):
        with pytest.raises(VerificationFailed, match="it counts for 300 s"):
            scene.verify(replace(offer, issued_at=moment(scene, seconds=later)))
    scene.clock.forward(seconds=LIFETIME_S + 1)
    with pytest.raises(VerificationFailed, match="was issued at"):
        scene.verify(offer)
    assert scene.verify(replace(scene.offer(), issued_at=moment(scene, seconds=-LIFETIME_S))) == WALLET.address


def test_limits_that_the_message_sets_itself_are_kept(scene: Scene) -> None:
    offer = scene.offer()
    with pytest.raises(VerificationFailed, match="expired at"):
        scene.verify(replace(offer, expiration_time=moment(scene)))
    with pytest.raises(VerificationFailed, match="does not count before"):
        scene.verify(replace(offer, not_before=moment(scene, seconds=1)))
    within = replace(offer, expiration_time=moment(scene, seconds=1), not_before=moment(scene))
    assert scene.verify(within) == WALLET.address


def test_message_counts_once(scene: Scene) -> None:
    offer = scene.offer()
    scene.verify(offer)
    with pytest.raises(VerificationFailed, match="was used before"):
        scene.verify(offer)
    with pytest.raises(VerificationFailed, match="was used before"):
        scene.verify(replace(offer, request_id="anew"))


def test_nonce_of_another_service_or_of_before_a_restart_is_refused(scene: Scene) -> None:
    other = Scene()
    with pytest.raises(VerificationFailed, match="none of this service's"):
        scene.verify(other.offer())


@given(st.data())
def test_no_character_of_a_signed_message_can_be_changed(data: st.DataObject) -> None:
    scene = Scene()
    text = str(scene.offer())
    signature = bytes.fromhex(signed(text, WALLET)[2:])
    place = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    other = text[:place] + data.draw(st.characters().filter(lambda c: c != text[place])) + text[place + 1 :]
    with pytest.raises((InvalidInput, VerificationFailed)):
        scene.service.verify(other, signature, LOGIN)


@given(st.integers(min_value=0, max_value=65 * 8 - 1))
def test_no_bit_of_a_signature_can_be_changed(bit: int) -> None:
    scene = Scene()
    text = str(scene.offer())
    signature = bytearray.fromhex(signed(text, WALLET)[2:])
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationFailed):
        scene.service.verify(text, bytes(signature), LOGIN)


@pytest.mark.parametrize("length", [0, 64, 66])
def test_signature_of_another_length_is_refused(scene: Scene, length: int) -> None:
    with pytest.raises(VerificationFailed, match="65 bytes"):
        scene.service.verify(str(scene.offer()), bytes(length), LOGIN)


@pytest.mark.parametrize(
    ("url", "domain", "scheme"),
    [
        ("http://127.0.0.1:9090", "127.0.0.1:9090", "http"),
        ("https://Buyer.Example:443/", "buyer.example", "https"),
        ("http://buyer.example:80/deltaml", "buyer.example", "http"),
    ],
)
def test_domain_is_that_of_the_public_url(url: str, domain: str, scheme: str) -> None:
    service = SignIn(url, lambda: CHAIN_ID)
    offer = service.offer(WALLET.address.lower(), LOGIN)
    assert (offer.domain, offer.uri, offer.address) == (domain, url.rstrip("/"), WALLET.address)
    text = str(replace(offer, scheme=scheme))
    assert service.verify(text, bytes.fromhex(signed(text, WALLET)[2:]), LOGIN) == WALLET.address


# Nonces


def test_nonce_counts_for_five_minutes_and_once() -> None:
    clock = Clock()
    nonces = Nonces(clock.seconds)
    early, late = nonces.issue(), nonces.issue()
    assert early != late and early.isalnum() and len(early) == 64
    nonces.use(early)
    with pytest.raises(VerificationFailed, match="was used before"):
        nonces.use(early)
    clock.forward(seconds=LIFETIME_S + 1)
    for nonce in (early, late):
        with pytest.raises(VerificationFailed, match="too old"):
            nonces.use(nonce)


def test_used_nonces_are_forgotten_when_they_are_too_old_to_pass_and_unused_ones_not_kept() -> None:
    clock = Clock()
    nonces = Nonces(clock.seconds)
    for _ in range(100):
        nonces.use(nonces.issue())
        nonces.issue()
    assert len(nonces) == 100
    clock.forward(seconds=LIFETIME_S + 1)
    nonces.use(nonces.issue())
    assert len(nonces) == 1


@given(st.integers(min_value=0, max_value=32 * 8 - 1))
def test_no_nonce_can_be_made_from_another(bit: int) -> None:
    nonces = Nonces()
    data = bytearray.fromhex(nonces.issue())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationFailed):
        nonces.use(data.hex())
