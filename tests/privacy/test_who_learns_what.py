"""What every service saw of a real training: the table in docs/threat-model.md, read off the record."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from gmpy2 import invert, jacobi, mpfr, mpz

from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, VALUE_BITS, pack
from commons.learning.contributions import UNIT
from commons.learning.local_steps import local_map, quantise_map
from commons.protocol import disputes, evaluation, messages, signed, transcript, wire
from commons.protocol.messages import (
    AggregatorDescription,
    Delivery,
    MaskedModels,
    MaskedRound,
    Message,
    MomentsStatement,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    TrainingMessage,
    TrainingRequest,
)
from commons.protocol.outcome import packed_count
from commons.protocol.round import aggregate
from tests.privacy.chance import (
    distance_from_uniform,
    recovered,
    tolerated_distance,
    tolerated_excess,
    tolerated_share,
)
from tests.privacy.fields import FIELDS, FOR_THE_ARBITER, PARTS
from tests.privacy.record import EXCHANGES, Record, int_of

Masked = list[tuple[list[int], list[int]]]
"""Vectors as the buyer saw them, each with the numbers behind the masks."""


@pytest.fixture(scope="module")
def masked(record: Record) -> Masked:
    pairs = []
    for _, question in record.asked(MaskedRound):
        pairs.append((record.packed(question), record.sums[question.round]))
    for asked, (_, models) in zip(record.evaluations[1:], record.asked(MaskedModels), strict=True):
        seen = record.masked(models)
        pairs += zip(seen, map(record.plain, asked.models), strict=True)
    return pairs


class TestBuyer:
    """Decrypts masked vectors, sums over all validators, and nothing else."""

    def test_decrypts_exactly_what_the_order_implies(self, record: Record) -> None:
        hyper = record.order.hyper_parameters
        evaluations = (hyper.iterations - 1) // hyper.evaluation_interval
        models = len(record.evaluations[-1].models)
        length, packed = record.order.length, packed_count(record.order.length, record.public_key)
        uses = record.uses_of_the_key()
        before = [e for e in uses if e["endpoint"] not in ANSWERING]
        assert {e["what"] for e in before} == {"rooted", "fourth rooted"}  # the key's proof, of hashed numbers
        assert Counter((e["what"], e["endpoint"]) for e in uses if e["endpoint"] in ANSWERING) == {
            ("decrypted", "trainings.refresh"): (hyper.iterations - 1) * packed,
            # For each proof of products one number more: see below.
            ("decrypted", "trainings.multiply"): evaluations * (length + 1) + models * length + 1,
            ("rooted", "trainings.multiply"): evaluations * 2 + models + 1,
            ("decrypted", "trainings.open_totals"): 1 + evaluations + models,
            ("rooted", "trainings.open_totals"): 1 + evaluations + models,
            ("opened", "trainings.open_totals"): 1 + evaluations + models,
            ("decrypted", "trainings.deliver"): length,  # the delivered model, masked, once more
        }
        multiplied, again = (
            {e["ciphertext"] for e in record.decryptions() if e["endpoint"] == f"trainings.{name}"}
            for name in ("multiply", "deliver")
        )
        assert again <= multiplied

    def test_decrypts_only_what_the_aggregator_sent_for_that(self, record: Record) -> None:
        sent: dict[str, set[bytes]] = {}
        for endpoint, kind, field in (
            ("trainings.refresh", MaskedRound, "packed"),
            ("trainings.multiply", MaskedModels, "masked"),
            ("trainings.open_totals", Totals, "ciphertexts"),
        ):
            width = record.public_key.ciphertext_bytes
            blobs = [getattr(question, field) for _, question in record.asked(kind)]
            sent[endpoint] = {blob[i : i + width].lstrip(b"\0") for blob in blobs for i in range(0, len(blob), width)}
        sent["trainings.deliver"] = sent["trainings.multiply"]
        others = []
        for entry in record.decryptions():
            assert entry["path"].startswith(f"/models/{record.training}")
            if entry["ciphertext"] not in sent[entry["endpoint"]]:
                others.append(entry)
        # Of what was sent and of its own products, with factors that it drew: a number that it can compute beforehand.
        assert [entry["endpoint"] for entry in others] == ["trainings.multiply"] * len(record.asked(MaskedModels))

    def test_masked_plaintexts_hold_full_slots_and_nothing_beside_them(self, record: Record) -> None:
        length = record.order.length
        for _, models in record.asked(MaskedModels):
            assert all(0 <= number < 1 << SLOT_BITS for vector in record.masked(models) for number in vector)
        for _, refresh in record.asked(MaskedRound):
            (plaintext,) = record.decrypt(refresh.packed)
            assert 0 <= plaintext < 1 << SLOT_BITS * length

    def test_every_mask_is_in_its_range(self, masked: Masked) -> None:
        for seen, behind in masked:
            for number, value in zip(seen, behind, strict=True):
                assert abs(value) < 1 << VALUE_BITS
                assert 1 << VALUE_BITS <= number - value < (1 << SLOT_BITS) - (1 << VALUE_BITS)

    def test_masked_numbers_look_uniform_and_never_recur(self, masked: Masked) -> None:
        numbers = [number for seen, _ in masked for number in seen]
        assert len(set(numbers)) == len(numbers) > 600
        for bits in (SLOT_BITS, 150, VALUE_BITS, 80, 40):  # the high digits, and what would be left of a low mask
            fractions = [(number % (1 << bits)) / 2.0**bits for number in numbers]
            assert distance_from_uniform(fractions) < tolerated_distance(len(numbers))
        for bit in range(SLOT_BITS):
            ones = sum(number >> bit & 1 for number in numbers)
            assert abs(ones - len(numbers) / 2) < tolerated_excess(len(numbers))

    def test_masked_numbers_follow_nothing_behind_them(self, masked: Masked) -> None:
        seen = np.array([[float(mpz(number)) for number in numbers] for numbers, _ in masked])
        behind = np.array([[float(mpz(value)) for value in values] for _, values in masked])
        for a, b in ((seen, behind), (np.diff(seen, axis=0), np.diff(behind, axis=0))):
            first, second = (np.argsort(np.argsort(values.ravel())) for values in (a, b))
            assert recovered(second, first, a.size / 2) < tolerated_share(a.size)

    def test_opens_sums_over_all_validators_and_no_single_score(self, record: Record) -> None:
        opened = {int_of(e["ciphertext"]) for e in record.decryptions()}
        scores = record.asked(ScoreQuestion)
        singles = [c for e, _ in scores for c in record.vector(e.answer)]
        assert len(record.validators) == 2 and not opened & set(map(int, singles))
        for _, totals in record.asked(Totals):
            answers = [e.answer for e, q in scores if (q.kind, q.round) == (totals.kind, totals.round)]
            assert len(answers) == len(totals.validators) == len(record.validators)
            sums = aggregate([record.vector(answer) for answer in answers], record.public_key)
            assert [record.key.decrypt_signed(c) for c in sums] == record.decrypt(totals.ciphertexts)

    def test_opened_totals_are_errors_of_models_on_all_validators(self, record: Record) -> None:
        validators = [record.statistics(name) for name in record.validators]
        rows = sum(owner.rows for owner in validators)
        for asked in record.evaluations:
            models = record.reals(asked) or [np.zeros(record.order.length)]
            for mse, model in zip(asked.mses, models, strict=True):
                expected = sum(owner.mse(model) * owner.rows for owner in validators) / rows
                assert mse / UNIT == pytest.approx(expected, rel=1e-8)

    def test_unmasks_one_model_once_and_that_is_the_users(self, record: Record, masked: Masked) -> None:
        ((_, delivery),) = record.asked(Delivery)
        place = {"trained": 0, "averaged": 1}[delivery.model]
        seen, behind = masked[-len(record.evaluations[-1].models) :][place]
        divisor = len(record.trainers) << FRACTION_BITS
        fixed = evaluation.deliver_model(seen, [int(q, 16) for q in delivery.quotients], divisor)
        np.testing.assert_array_equal(np.array(fixed) / 2**FRACTION_BITS * record.order.target_scale, record.weights)
        assert all(0 <= value - behind[i] // divisor <= 1 for i, value in enumerate(fixed))

    def test_gets_the_model_after_everything_else(self, record: Record) -> None:
        ((delivery, _),) = record.asked(Delivery)
        opened = [e.time for e, _ in record.asked(Totals)]
        assert max(opened) < delivery.time


class TestMessages:
    """Every field of every message is known, and of the kind that it may be."""

    def test_no_call_leaves_but_to_a_known_route_of_a_service_or_the_chain(self, record: Record) -> None:
        assert record.exchanges
        arrived = Counter(
            (called, e["method"], e["path"], e["request"])
            for called, entries in record.tapes.items()
            for e in entries
            if e["what"] == "served"
        )
        calls = (e for entries in record.tapes.values() for e in entries if e["what"] == "sent")
        sent = Counter(
            (called, e["method"], path, e["request"])
            for e in calls
            for called, path in [record.addressee(e["url"])]
            if called != "chain"
        )
        assert sent <= arrived
        from_users = {(who.partition("-")[0], how, where.split("/")[1]) for who, how, where, _ in arrived - sent}
        assert from_users <= USER_CALLS

    def test_every_message_type_is_known_with_all_its_fields(self) -> None:
        used = {kind for types in EXCHANGES.values() for kind in types if kind is not None}
        defined = {kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)}
        assert (
            used | {TotalStatement, MomentsStatement} == defined - {Message, TrainingMessage} == set(FIELDS)
        )  # they are signed, in what owners are told
        for kind, fields in FIELDS.items():
            assert fields.keys() == kind.model_fields.keys(), kind.__name__

    def test_every_record_that_is_signed_or_shown_is_known_with_all_its_fields(self) -> None:
        defined = {
            kind
            for module in (messages, signed, transcript, disputes)
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, messages.Record)
        }
        known = {kind: set(fields) for kind, fields in FIELDS.items()} | PARTS | FOR_THE_ARBITER
        assert defined - {messages.Record, Message, TrainingMessage} == set(known)
        for kind, fields in known.items():
            assert fields == kind.model_fields.keys(), kind.__name__

    def test_everybody_signs_what_it_says_and_nobody_else(self, record: Record) -> None:
        for e in record.exchanges:
            if isinstance(e.answer, AggregatorDescription):
                assert (e.question, e.asked, e.answered) == (None, None, None)
                continue
            assert e.question is not None and e.asked is not None and e.answered is not None
            says = "buyer" if isinstance(e.question, TrainingRequest) else e.caller  # passed on by the aggregator
            assert e.asked.sender(type(e.question), record.domain) == record.accounts[says]
            assert e.answered.sender(type(e.answer), record.domain, e.asked) == record.accounts[e.called]

    def test_every_field_of_every_message_is_of_its_kind(self, record: Record) -> None:
        for exchange in record.exchanges:
            for message in filter(None, (exchange.question, exchange.answer)):
                for field, check in FIELDS[type(message)].items():
                    check(record, exchange, getattr(message, field))

    def test_everybody_receives_only_the_messages_of_its_role(self, record: Record) -> None:
        received: dict[str, set[str]] = {"buyer": set(), "aggregator": set(), "trainer": set(), "validator": set()}
        role = dict.fromkeys(record.trainers, "trainer") | dict.fromkeys(record.validators, "validator")
        for e in record.exchanges:
            received[role.get(e.called, e.called)] |= {type(e.question).__name__} if e.question else set()
            received[role.get(e.caller, e.caller)].add(type(e.answer).__name__)
        everyone = {"AggregatorDescription", "TrainingRequest", "Notice", "Metric", "Acknowledgement"}
        assert received == {
            "buyer": {
                "AggregatorDescription", "Acknowledgement", "Notice",
                "MaskedRound", "MaskedModels", "Totals", "Delivery",
            },
            "aggregator": {
                "TrainingRequest", "OwnerRegistration", "Acceptance", "Acknowledgement", "Vector", "Products",
                "Cosignature", "Openings",
            },
            "trainer": everyone | {"RoundQuestion", "LocalModelQuestion"},
            "validator": everyone | {"ScoreQuestion", "CosignQuestion"},
        }  # fmt: skip

    def test_no_ciphertext_comes_to_the_key_with_randomness_of_others(self, record: Record) -> None:
        """Modulo n a ciphertext is its randomness, and whoever has the key could follow it to its makers."""
        for _, refresh in record.asked(MaskedRound):
            answers = [e.answer for e, q in record.asked(RoundQuestion) if q.round == refresh.round]
            known = pack(aggregate([record.vector(a) for a in answers], record.public_key), record.public_key)
            require_other_randomness(record, refresh.packed, known)
        for asked, (_, models) in zip(record.evaluations[1:], record.asked(MaskedModels), strict=True):
            require_other_randomness(record, models.masked, wire.join(asked.models))
        for _, totals in record.asked(Totals):
            scores = [
                e.answer for e, q in record.asked(ScoreQuestion) if (q.kind, q.round) == (totals.kind, totals.round)
            ]
            known = aggregate([record.vector(answer) for answer in scores], record.public_key)
            require_other_randomness(record, totals.ciphertexts, known)

    def test_randomness_towards_the_key_is_uniform(self, record: Record) -> None:
        """What was multiplied into ciphertexts on their way to the buyer, which can compute it as we do here."""
        pairs: list[tuple[mpz, mpz]] = []
        for _, refresh in record.asked(MaskedRound):
            answers = [e.answer for e, q in record.asked(RoundQuestion) if q.round == refresh.round]
            known = pack(aggregate([record.vector(a) for a in answers], record.public_key), record.public_key)
            pairs += zip(record.public_key.decode(refresh.packed, len(known)), known, strict=True)
        for asked, (_, models) in zip(record.evaluations[1:], record.asked(MaskedModels), strict=True):
            known = wire.join(asked.models)
            pairs += zip(record.public_key.decode(models.masked, len(known)), known, strict=True)
        n = record.public_key.n
        roots = [record.key.nth_root(sent * invert(known, n) % n) for sent, known in pairs]
        assert len(set(roots)) == len(roots) > 400
        assert distance_from_uniform([float(root / n) for root in map(mpfr, roots)]) < tolerated_distance(len(roots))
        for bit in range(16):
            assert abs(sum(root.bit_test(bit) for root in roots) - len(roots) / 2) < tolerated_excess(len(roots))
        symbols = sum(jacobi(root, n) == 1 for root in roots)
        assert abs(symbols - len(roots) / 2) < tolerated_excess(len(roots))

    def test_owners_answers_hide_what_was_computed_from_whoever_computes_it_too(self, record: Record) -> None:
        """The aggregator has the question: without fresh randomness it could try coefficients until they fit."""

        class NoRandomness:
            def take(self, count: int) -> list[mpz]:
                return [mpz(1)] * count

        n, hyper = record.public_key.n, record.order.hyper_parameters
        for exchange, question in record.asked(RoundQuestion)[len(record.trainers) : 3 * len(record.trainers)]:
            stats = record.statistics(exchange.called)
            step = AffineMap(*quantise_map(*local_map(stats, hyper.learning_rate, hyper.ridge, hyper.local_steps)))
            model = record.public_key.decode(question.model, record.order.length)
            bare = step.apply(model, record.public_key, NoRandomness())
            answer = record.vector(exchange.answer)
            assert [record.key.decrypt(c) for c in bare] == [record.key.decrypt(c) for c in answer]
            assert not {c % n for c in bare} & {c % n for c in answer}
        for exchange, asked in record.asked(ScoreQuestion):
            if asked.kind == "iteration" and asked.round == hyper.evaluation_interval:
                ((vector, products, masks),) = wire.questioned_vectors(asked, 1, record.order.length, record.public_key)
                score = evaluation.score(
                    record.statistics(exchange.called), len(asked.trainers), vector, products, masks,
                    record.public_key, NoRandomness(),
                )  # fmt: skip
                assert score % n != record.vector(exchange.answer)[0] % n


ANSWERING = ("trainings.refresh", "trainings.multiply", "trainings.open_totals", "trainings.deliver")

USER_CALLS = {
    ("aggregator", "GET", "helper"),
    ("aggregator", "GET", "model"),
    ("aggregator", "GET", "contract"),
    ("aggregator", "POST", "users"),
    ("buyer", "GET", "helpers"),
    ("buyer", "GET", "contract"),
    ("buyer", "POST", "users"),
    ("buyer", "POST", "models"),
    ("buyer", "GET", "models"),
    ("owner", "GET", "helpers"),
    ("owner", "GET", "contract"),
    ("owner", "POST", "users"),
    ("owner", "POST", "datasets"),
    ("owner", "GET", "models"),
    ("owner", "PUT", "trainings"),
}
"""What the test itself calls, as users do: service, method, first part of the path."""


def require_other_randomness(record: Record, sent: bytes, known: list[mpz]) -> None:
    n = record.public_key.n
    for mine, theirs in zip(record.public_key.decode(sent, len(known)), known, strict=True):
        assert mine % n != theirs % n
