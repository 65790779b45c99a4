"""The transcript: what is in it, that an audit passes, and that nobody is shown it or evidence without a dispute."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from eth_account import Account
from gmpy2 import powmod

import data_owner.app
import federated_aggregator.app
import model_buyer.app
from commons.audit import audit
from commons.chain.marketplace import Outcome, Status
from commons.crypto.packing import pack_masked
from commons.http.request_signing import RequestSigner
from commons.protocol import totals, wire
from commons.protocol.messages import (
    CosignQuestion,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TrainingRequest,
)
from commons.protocol.round import aggregate
from commons.protocol.signed import Signed
from commons.protocol.transcript import (
    Cosigned,
    Header,
    LocalModels,
    Masking,
    Opened,
    Round,
    Scores,
    Transcript,
    TranscriptRoot,
    read,
)
from tests.integration.conftest import QUICK, Town
from tests.integration.outages import begin, chain_of, freeze, frozen, mend, thaw, until
from tests.integration.refusals import refused
from tests.privacy.needles import Needles
from tests.privacy.record import Exchange, Record
from tests.signing import OUTSIDER
from tests.transcripts import expect_audited


@pytest.fixture(scope="module")
def transcript(recorded_town: Town, record: Record) -> Transcript:
    return expect_audited(recorded_town.platform, str(record.training))


class TestContents:
    """Signed messages as they went over the wire, and the aggregator's masks, salts and randomisers: nothing else."""

    def test_has_an_entry_of_every_step_and_no_other(self, record: Record, transcript: Transcript) -> None:
        rounds = record.order.hyper_parameters.iterations
        evaluated = {(f"mask-{q.kind}", q.round) for _, q in record.asked(MaskedModels)}
        evaluated |= {(f"score-{q.kind}", q.round) for _, q in record.asked(ScoreQuestion)}
        evaluated |= {(f"{step}-{q.kind}", q.round) for step in ("total", "opening") for _, q in record.asked(Totals)}
        assert set(transcript.records) == evaluated | {
            ("header", 0),
            ("local", 0),
            *(("round", round_) for round_ in range(rounds)),
            *(("refresh", round_) for round_ in range(rounds - 1)),
        }

    def test_says_what_was_said(self, record: Record, transcript: Transcript) -> None:
        for (kind, round_), entry in transcript.records.items():
            about = kind.partition("-")[2], round_
            match entry:
                case Header():
                    requests_ = {
                        asked.pack() for e, _ in record.asked(TrainingRequest) if (asked := e.asked) is not None
                    }
                    assert requests_ == {entry.request.pack()}
                    assert entry.aggregator == record.accounts["aggregator"]
                    assert entry.trainers == tuple(record.accounts[name] for name in record.trainers)
                    assert entry.validators == tuple(record.accounts[name] for name in record.validators)
                    assert entry.rows == (50,) * len(record.tables)
                case Round():
                    exchanges = [e for e, q in record.asked(RoundQuestion) if q.round == round_]
                    assert_said(record, entry.question, entry.answers, exchanges, record.trainers)
                    before = [e.answered for e, q in record.asked(MaskedRound) if q.round == round_ - 1]
                    assert [entry.refreshed] == (before or [None])
                case Masking() if kind == "refresh":
                    assert [entry.question] == [e.asked for e, q in record.asked(MaskedRound) if q.round == round_]
                case Masking():
                    assert [entry.question] == [e.asked for e, _ in record.about(MaskedModels, *about)]
                    shown = {(q.masks, q.salts) for _, q in record.about(ScoreQuestion, *about)}
                    assert shown == {(entry.masks, entry.salts)}
                case LocalModels():
                    exchanges = [e for e, _ in record.asked(LocalModelQuestion)]
                    assert_said(record, entry.question, entry.answers, exchanges, record.trainers)
                case Scores():
                    exchanges = [e for e, _ in record.about(ScoreQuestion, *about)]
                    assert_said(record, entry.question, entry.answers, exchanges, record.validators)
                    multiplied = [e.answered for e, _ in record.about(MaskedModels, *about)]
                    assert [entry.products] == (multiplied or [None])
                case Cosigned():
                    exchanges = [e for e, _ in record.about(CosignQuestion, *about)]
                    assert_said(record, entry.question, entry.answers, exchanges, record.validators)
                    assert [entry.totals] == [e.asked for e, _ in record.about(Totals, *about)]
                case Opened():
                    assert [entry.openings] == [e.answered for e, _ in record.about(Totals, *about)]
                case _:
                    raise AssertionError(f"nobody has said what may be in {kind}")

    def test_numbers_of_the_aggregators_own_lead_from_ciphertext_to_ciphertext(
        self, record: Record, transcript: Transcript
    ) -> None:
        """So there is nothing in them but randomness: no plaintext, and none of the owners' numbers."""
        key, length = record.public_key, record.order.length
        for (kind, round_), entry in transcript.records.items():
            if not isinstance(entry, Masking):
                continue
            if kind == "refresh":
                answers = [e.answer for e, q in record.asked(RoundQuestion) if q.round == round_]
                masks = wire.decode_masks(entry.masks, length)
                made = pack_masked(aggregate([record.vector(a) for a in answers], key), masks, key)
                sent = entry.question.read(MaskedRound).packed
            else:
                name = kind.partition("-")[2], round_
                (evaluated,) = (each for each in record.evaluations if (each.kind, each.round) == name)
                masks = wire.decode_masks(entry.masks, length * len(evaluated.models))
                pairs = zip(wire.join(evaluated.models), masks, strict=True)
                made = [key.add(ciphertext, mask) for ciphertext, mask in pairs]
                sent = entry.question.read(MaskedModels).masked
            roots = wire.decode_roots(entry.randomisers, len(made), key)
            powers = [powmod(root, key.n, key.n_squared) for root in roots]
            assert [a * b % key.n_squared for a, b in zip(made, powers, strict=True)] == key.decode(sent, len(made))
            assert len(entry.salts) == (totals.DELIVERABLE * totals.SALT_BYTES if kind == "mask-settlement" else 0)

    def test_its_root_is_the_aggregators_word(self, record: Record, transcript: Transcript) -> None:
        address = record.accounts["aggregator"]
        assert transcript.root.verified(TranscriptRoot, record.domain, address).training == record.training


def assert_said(
    record: Record, question: Signed, answers: tuple[Reply, ...], asked: list[Exchange], names: tuple[str, ...]
) -> None:
    """Check a question to several owners, and what each of them answered, in their order."""
    assert {exchange.called for exchange in asked} == set(names) and len(asked) == len(names)
    for exchange in asked:
        assert exchange.asked is not None and exchange.answered is not None
        if not isinstance(exchange.question, CosignQuestion):
            assert exchange.asked == question
        place = names.index(exchange.called)
        answer = exchange.answered
        assert answers[place] == Reply(place=place, content=answer.content, signature=answer.signature)


class TestAccess:
    """The arbiter of a disputed training may read it, and its parties' evidence. This one is not disputed."""

    def test_nobody_reads_them_unsigned(self, recorded_town: Town, record: Record) -> None:
        for url in closed(recorded_town, str(record.training)):
            refused(requests.get(url, timeout=30), 401)

    @pytest.mark.parametrize("name", [OUTSIDER, "deployer", "buyer", "aggregator", "owner-1", "owner-2", "arbiter"])
    def test_nobody_reads_them_without_a_dispute(self, recorded_town: Town, record: Record, name: str) -> None:
        account = Account.create() if name == OUTSIDER else recorded_town.platform.accounts[name]
        for url in closed(recorded_town, str(record.training)):
            assert "in a dispute only" in refused(requests.get(url, auth=RequestSigner(account), timeout=30), 403)

    @pytest.mark.parametrize("name", ["deployer", "buyer", "owner-1", "arbiter"])
    def test_nobody_is_told_where_owners_are_without_a_dispute(
        self, recorded_town: Town, record: Record, name: str
    ) -> None:
        signer = RequestSigner(recorded_town.platform.accounts[name])
        url, owner = where(recorded_town), record.accounts["owner-2"]
        refused(requests.get(url, params={"address": owner}, timeout=30), 401)
        for params in ({}, {"address": owner}, {"training": str(record.training)}):
            assert "an arbiter says which owner" in refused(
                requests.get(url, params=params, auth=signer, timeout=30), 403
            )
        params = {"address": owner, "training": str(record.training)}
        assert "in a dispute only" in refused(requests.get(url, params=params, auth=signer, timeout=30), 403)

    def test_no_other_route_shows_any_of_it(
        self, recorded_town: Town, record: Record, transcript: Transcript, tmp_path: Path
    ) -> None:
        known, asked = contents(record, transcript), 0
        file = recorded_town.platform.directory / f"{record.training}.transcript"
        assert len(known.find(file.read_bytes())) > 5 * record.order.hyper_parameters.iterations
        for name, path in readable(recorded_town, record, tmp_path):
            headers = recorded_town.services[name].authorization
            answer = requests.get(recorded_town.platform.urls[name] + path, headers=headers, timeout=30)
            asked += answer.ok
            assert known.find(answer.content) == set(), path
        assert asked > 12


@pytest.fixture(scope="module")
def disputed(recorded_town: Town) -> Iterator[str]:
    """A training whose result an owner disputes, undecided."""
    case = begin(recorded_town, QUICK | {"iterations": 30})
    platform, books = recorded_town.platform, case.books("aggregator")
    try:
        thaw(platform, "buyer")
        until("three rounds", lambda: len(books.rounds("round")) >= 3)
        with frozen(platform, "chain"):  # nothing is reported without the chain
            until("all but the report", lambda: books.value("trainings", "outcome"))
            freeze(platform, "buyer")  # which would confirm it
        until("the report", lambda: case.on_chain.status == Status.REPORTED)
        chain_of(recorded_town, "owner-1").dispute_result(uuid.UUID(case.id), bytes(32), case.on_chain.bond)
        thaw(platform, "buyer")
        yield case.id
    finally:
        mend(platform)
    chain_of(recorded_town, "arbiter").resolve(uuid.UUID(case.id), Outcome.AS_REPORTED)
    case.expect_audited()
    recorded_town.buyer.wait_finished(case.id)


class TestAccessInADispute:
    """While a training is disputed its arbiter reads the transcript, and what the disputer claims; nobody else does."""

    def test_the_arbiter_reads_the_transcript(self, recorded_town: Town, disputed: str) -> None:
        signer = RequestSigner(recorded_town.platform.accounts["arbiter"])
        url, *evidence = closed(recorded_town, disputed)
        answer = requests.get(url, auth=signer, timeout=30)
        assert answer.status_code == 200
        assert audit(read(io.BytesIO(answer.content))).passed
        for url in evidence:  # no service claims anything: the dispute came from elsewhere
            assert "claims nothing" in refused(requests.get(url, auth=signer, timeout=30), 404)

    def test_the_arbiter_is_told_where_an_owner_of_it_is_and_no_other(self, recorded_town: Town, disputed: str) -> None:
        signer, url = RequestSigner(recorded_town.platform.accounts["arbiter"]), where(recorded_town)
        of_it = recorded_town.members["owner-1"].address
        answer = requests.get(url, params={"address": of_it, "training": disputed}, auth=signer, timeout=30)
        assert [each["address"] for each in answer.json()["data_owners"]] == [of_it]
        for params in ({"training": disputed}, {"address": of_it}):
            refused(requests.get(url, params=params, auth=signer, timeout=30), 403)
        params = {"address": recorded_town.platform.accounts["buyer"].address, "training": disputed}
        assert "has no part in" in refused(requests.get(url, params=params, auth=signer, timeout=30), 403)

    @pytest.mark.parametrize("name", [None, OUTSIDER, "deployer", "buyer", "aggregator", "owner-1", "owner-2"])
    def test_nobody_else_does(self, recorded_town: Town, disputed: str, name: str | None) -> None:
        for url in closed(recorded_town, disputed):
            if name is None:
                refused(requests.get(url, timeout=30), 401)
                continue
            account = Account.create() if name == OUTSIDER else recorded_town.platform.accounts[name]
            answer = requests.get(url, auth=RequestSigner(account), timeout=30)
            assert "shown to the training's arbiter" in refused(answer, 403)
        if name is not None:
            params = {"address": recorded_town.members["owner-1"].address, "training": disputed}
            answer = requests.get(where(recorded_town), params=params, auth=RequestSigner(account), timeout=30)
            assert "shown to the training's arbiter" in refused(answer, 403)


def where(town: Town) -> str:
    """The URL that says where owners are."""
    return f"{town.platform.urls['aggregator']}/dataowner"


def closed(town: Town, training_id: str) -> list[str]:
    """The URLs of a training's transcript, and of the evidence of everybody in it."""
    of = town.platform.urls
    evidence = [f"{of[name]}/trainings/{training_id}/evidence" for name in town.members]
    evidence.append(f"{of['buyer']}/models/{training_id}/evidence")
    return [f"{of['aggregator']}/model/{training_id}/transcript", *evidence]


def readable(town: Town, record: Record, directory: Path) -> Iterator[tuple[str, str]]:
    """Every route that can be read, at every service that has it, about the training if it is about one."""
    for module, kind, names in (
        (federated_aggregator.app, "aggregator", ["aggregator"]),
        (model_buyer.app, "buyer", ["buyer"]),
        (data_owner.app, "owner", list(record.tables)),
    ):
        config = {
            "data_dir": directory / kind,
            "public_url": "http://127.0.0.1:9",
            "chain_url": town.platform.urls["chain"],
            "contract_address": record.contract,
            "account_private_key": Account.create().key.to_0x_hex(),
        }
        if kind != "aggregator":
            config["aggregator_url"] = town.platform.urls["aggregator"]
        if kind == "buyer":
            config["arbiter_address"] = record.accounts["arbiter"]
        app = module.create_app(module.Config.model_validate(config))
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or ()):
                values = {argument: str(record.training) for argument in rule.arguments}
                with app.test_request_context():
                    path = app.url_map.bind("").build(rule.endpoint, values)
                yield from ((name, path) for name in names)


def contents(record: Record, transcript: Transcript) -> Needles:
    """Return the signatures, ciphertexts, masks, randomisers and salts of a transcript."""
    found = Needles()
    width = record.public_key.ciphertext_bytes

    def add(label: str, content: bytes) -> None:
        for start in range(0, len(content) - 31, width):
            piece = content[start : start + 32]
            found.add_bytes(label, piece)
            found.add_integers(label, [int.from_bytes(piece, "big")])

    for kind, entry in transcript.records.items():
        for field in type(entry).model_fields:
            value = getattr(entry, field)
            for item in value if isinstance(value, tuple) else [value]:
                if isinstance(item, (Signed, Reply)):
                    add(f"a signature of {kind}", item.signature)
                    middle = len(item.content) // 2
                    if middle > width:  # ciphertexts: their fields' names and the training are known anyway
                        add(f"a message of {kind}", item.content[middle : middle + width])
                elif isinstance(item, bytes):
                    add(f"{field} of {kind}", item)
    return found
