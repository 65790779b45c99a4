"""Rows, sums, models and keys, searched for in every encoding: in bodies, databases and logs."""

from __future__ import annotations

import ast
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, slots
from commons.learning.local_steps import local_map, local_model
from commons.protocol.evaluation import VECTOR_BITS
from commons.protocol.messages import ScoreQuestion
from tests.privacy.needles import Needles
from tests.privacy.record import Record, int_of

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("commons", "model_buyer", "data_owner", "federated_aggregator")


def test_needles_are_found_in_every_encoding() -> None:
    needles = Needles()
    small, large = 0.038075906433423026, 147.55324473079801
    needles.add_reals("real", [small, large])
    needles.add_column("column", [151.0, 75.0, 141.0])
    needles.add_integers("integer", [-(7**60)], 11**200)
    needles.add_bytes("bytes", b"0123456789abcdef")
    fixed = round(small * 2**80)
    reals = [repr(small), "3.8075906433423026e-02", repr(large), "1.4755324473079801e+02", str(fixed), f"{fixed:x}"]
    for content in [text.encode() for text in reals] + [
        np.array([small], dtype=">f8").tobytes(),
        np.array([large], dtype="<f8").tobytes(),
        fixed.to_bytes(256, "big"),
    ]:
        assert needles.find(b"xyz" + content + b"}") == {"real"}
    for content in (np.array([151.0, 75.0, 141.0]).tobytes(), b"[151.0, 75.0, 141.0]", b'{"y":[151,75,141]}'):
        assert needles.find(b"xyz" + content) == {"column"}
    for content in (str(7**60).encode(), f"{7**60:x}".encode(), (-(7**60) % 11**200).to_bytes(100, "big")):
        assert needles.find(b"xyz" + content) == {"integer"}
    for shift in range(3):
        assert needles.find(b64encode(b"*" * shift + b"0123456789abcdef??")) == {"bytes"}


@pytest.fixture(scope="module")
def everything(record: Record) -> Needles:
    return secrets(record)


@pytest.mark.parametrize("to_the_chain", [False, True])
def test_no_word_to_another_service_or_the_chain_holds_data_models_or_keys(
    record: Record, everything: Needles, to_the_chain: bool
) -> None:
    words = [
        body
        for entries in record.tapes.values()
        for e in entries
        if e["what"] == "sent" and (record.addressee(e["url"])[0] == "chain") == to_the_chain
        for body in (e["request"], e["answer"])
    ]
    assert len(words) > 200 and everything.find(b"|".join(words)) == set()


def test_no_log_holds_data_models_or_keys(record: Record, everything: Needles) -> None:
    logs = list(record.directory.glob("*.log"))
    assert len(logs) > 7 and everything.find(b"|".join(log.read_bytes() for log in logs)) == set()


def test_no_database_holds_what_its_service_may_not_know(record: Record, everything: Needles) -> None:
    for name in record.tapes:
        content = b"|".join(file.read_bytes() for file in (record.directory / name).glob("service.db*"))
        assert len(content) > 100_000 and everything.find(content, allowed(record, name)) == set()


def test_no_answer_to_users_holds_what_its_service_may_not_know(record: Record, everything: Needles) -> None:
    for name, entries in record.tapes.items():
        answers = b"|".join(e["answer"] for e in entries if e["what"] == "served")
        assert answers and everything.find(answers, allowed(record, name)) == set()


def test_no_answer_to_users_holds_the_model_before_it_is_delivered(record: Record) -> None:
    model = Needles()
    model.add_reals("model", record.weights.tolist())
    answers = [(e["time"], e["answer"]) for e in record.tapes["buyer"] if e["what"] == "served"]
    assert model.find(b"|".join(answer for time, answer in answers if time < record.delivered_at)) == set()
    assert model.find(b"|".join(answer for time, answer in answers if time > record.delivered_at)) == {"model"}


def test_an_owner_keeps_no_upload(record: Record) -> None:
    for name in record.tables:
        assert list((record.directory / name / "scratch").iterdir()) == []


def test_nothing_but_the_cryptosystem_touches_the_factors() -> None:
    """Whatever is decrypted, then, is decrypted by what the record wraps."""
    secret = {"_p", "_q", "_h_p", "_h_q", "_p_squared", "_q_squared", "_p_inverse", "_p_squared_inverse"}
    sources = [path for folder in SERVICES for path in (REPOSITORY / folder).rglob("*.py")]
    touching = {
        path.name
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in secret
    }
    assert touching == {"paillier.py"}


def test_nothing_but_the_proofs_asks_for_roots_or_factors() -> None:
    """These are what the key can do beside decrypting, and they would do as well."""
    asking = {
        path.name
        for folder in SERVICES
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"nth_root", "fourth_root", "by_factors"}
        or isinstance(node, ast.Attribute)
        and node.attr == "factors"
        and "key" in ast.unparse(node.value)
    }
    assert asking == {"paillier.py", "proofs.py"}


def secrets(record: Record) -> Needles:
    """Return what nobody may hold but who made it; what is public of it (numbers of the order, of rows) is left out."""
    found = Needles()
    order, hyper, modulus = record.order, record.order.hyper_parameters, int(record.public_key.n)
    requirements = order.data_requirements
    public = {0.0, 1.0, *requirements.features.range, *requirements.target.range, hyper.learning_rate, 50.0, 0.5, 0.25}
    for owner, table in record.tables.items():
        found.add_reals(f"rows of {owner}", table.ravel().tolist(), public)
        found.add_column(f"targets of {owner}", table[:, -1].tolist())
        found.add_column(f"targets of {owner}", (table[:, -1] / order.target_scale).tolist())
        add_sums(found, record, owner, public)
        stats = record.statistics(owner)
        step = local_map(stats, hyper.learning_rate, hyper.ridge, hyper.local_steps)
        found.add_reals(f"step of {owner}", np.concatenate([array.ravel() for array in step]).tolist(), public)
        model = local_model(stats, hyper.learning_rate, hyper.ridge, hyper.local_steps * hyper.iterations)
        for unit in (1.0, order.target_scale):
            found.add_reals(f"model of {owner}", (model * unit).tolist(), public)
    k = len(record.trainers)
    for round_, values in enumerate(record.sums):
        label = f"model of round {round_}"
        found.add_integers(label, values, modulus)
        found.add_integers(label, [value // (k << FRACTION_BITS) for value in values], modulus)
        for unit in (1.0, order.target_scale):
            found.add_reals(label, [value / (k << VECTOR_BITS) * unit for value in values], public)
    found.add_reals("delivered model", [*record.weights, *(record.weights / order.target_scale)])
    for entry in record.decryptions():
        plaintext = int_of(entry["plaintext"])
        if entry["endpoint"] == "trainings.refresh":
            numbers = [plaintext >> SLOT_BITS * i & (1 << SLOT_BITS) - 1 for i in range(slots(record.public_key))]
            found.add_integers("masked numbers", numbers)
        elif entry["endpoint"] != "trainings.open_totals":
            found.add_integers("masked numbers", [plaintext])
    for exchange, _ in record.asked(ScoreQuestion):
        values = [record.key.decrypt_signed(c) for c in record.vector(exchange.answer)]
        found.add_integers(f"score of {exchange.called}", values)
    primes = record.key.to_bytes()
    for prime in (primes[: len(primes) // 2], primes[len(primes) // 2 :]):
        found.add_bytes("private key", prime.lstrip(b"\0"))
        found.add_integers("private key", [int_of(prime), int_of(prime) - 1])
    return found


def allowed(record: Record, name: str) -> Needles:
    """Return what a service may hold: the buyer its model, an owner its columns' sums, least and largest values."""
    found = Needles()
    if name == "buyer":
        found.add_reals("delivered model", [*record.weights, *(record.weights / record.order.target_scale)])
    if name in record.tables:
        table = record.tables[name]
        found.add_reals("range", [*table.min(axis=0), *table.max(axis=0)])
        add_sums(found, record, name, ())
    return found


def add_sums(needles: Needles, record: Record, owner: str, public: Collection[float]) -> None:
    table = np.column_stack([np.ones(len(record.tables[owner])), record.tables[owner]])
    stats = record.statistics(owner)
    sums = np.concatenate([(table.T @ table).ravel(), stats.gram.ravel(), stats.moment, [stats.target_square]])
    for divisor in (1, stats.rows):
        needles.add_reals(f"sums of {owner}", (sums / divisor).tolist(), public)
