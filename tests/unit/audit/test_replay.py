"""What honest parties do passes, whatever gets lost; what the protocol can catch is caught, with who did it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import pytest
from gmpy2 import mpz, powmod

from commons.audit import Report, audit
from commons.audit.replay import Subject
from commons.crypto.packing import from_fixed, pack_masked
from commons.crypto.powers import Rerandomised, first_false
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_descent
from commons.protocol import evaluation, totals, wire
from commons.protocol import round as rounds
from commons.protocol.messages import ScoreQuestion
from commons.protocol.transcript import Entry, Masking, Scores, TranscriptRoot, merkle_root, position, read, write
from tests.unit.audit.parties import AGGREGATOR, KEY, TRAINING, Change, Story, audited


def subject(report: Report) -> str:
    """Return the check that the first deviation is in."""
    return next(check.name for check in report.checks if check.deviation is not None)


def test_an_honest_training_passes_every_check(report: Report) -> None:
    assert report.passed and report.first is None
    assert [check.name for check in report.checks] == list(Subject)
    assert all(check.items > 0 for check in report.checks)


def test_the_result_is_that_of_training_in_the_clear(story: Story, report: Report) -> None:
    hyper, result = story.order.hyper_parameters, report.result
    assert result is not None
    trainers, validators = story.statistics[: story.trainers], story.statistics[story.trainers :]
    model = federated_descent(trainers, story.weights, hyper.iterations, hyper.learning_rate, hyper.ridge, 1)
    rows = sum(owner.rows for owner in validators)

    def mse(weights: Any) -> float:
        return sum(owner.rows * owner.mse(weights) for owner in validators) / rows

    assert result.iterations == 3
    assert result.initial_mse / UNIT == pytest.approx(mse(np.zeros(4)), rel=1e-8)
    assert report.curve[-1] == (3, pytest.approx(mse(model) * UNIT, rel=1e-8))
    assert result.trainers_answered == (True,) * 3 and result.validators_answered == (True,) * 2


def test_the_delivery_unmasks_the_better_model_and_opens_its_commitment(
    story: Story, file: bytes, report: Report
) -> None:
    assert report.delivery is not None and report.result is not None
    transcript = read(io.BytesIO(file))
    masking, scores = transcript.records["mask-settlement", 3], transcript.records["score-settlement", 3]
    assert isinstance(masking, Masking) and isinstance(scores, Scores)
    question = scores.question.read(ScoreQuestion)
    place = ("trained", "averaged").index(report.delivery.model)
    quotients = [int(quotient, 16) for quotient in report.delivery.quotients]
    factor = sum(story.weights)
    committed = totals.commitments(question, (factor, factor, *[1] * 9), 4)
    assert evaluation.commitment(report.delivery.salt, quotients) == committed[place]
    masked = wire.split(KEY.public_key.decode(question.masked, 11 * 4), 11)[place]
    opened = evaluation.open_masked([masked], KEY)[0]
    model = [from_fixed(value) for value in evaluation.deliver_model(opened, quotients, factor << 40)]
    validators = story.statistics[story.trainers :]
    mse = sum(v.rows * v.mse(np.array(model)) for v in validators) / sum(v.rows for v in validators)
    assert mse * UNIT == pytest.approx(report.result.final_mse, rel=1e-7)


@pytest.mark.parametrize(
    "story",
    [
        Story(weighting="equal"),
        Story(evaluation_interval=2),
        Story(tolerance=0.9),
        Story(silent=frozenset({"round 1 answer 2", "local answer 0"})),
        Story(silent=frozenset({"score-iteration 2 answer 1"})),
        Story(silent=frozenset({"total-iteration 1 answer 0"})),
        Story(silent=frozenset({"score-settlement 3 answer 0", "round 0 answer 1"})),
    ],
    ids=[
        "equal",
        "interval",
        "converged",
        "trainer lost",
        "validator lost",
        "validator does not sign",
        "lost at the end",
    ],
)
def test_what_honest_parties_may_do_is_no_deviation(story: Story) -> None:
    report = audited(story.tell())
    assert report.passed, report.first
    assert report.result is not None


def test_a_validator_that_was_lost_is_not_counted_as_having_answered() -> None:
    report = audited(Story(silent=frozenset({"score-iteration 2 answer 1"})).tell())
    assert report.result is not None
    assert report.result.validators_answered == (True, False)
    assert report.result.initial_mse != dict(report.curve)[0]  # scored again by who remains


@pytest.mark.parametrize(
    ("story", "claimed"),
    [
        (Story(evaluation_interval=2, ordered={"evaluation_interval": 1}), "no evaluation after 1 rounds"),
        (Story(evaluation_interval=1, ordered={"evaluation_interval": 2}), "an evaluation after 1 rounds"),
        (Story(ordered={"iterations": 4}), "no evaluation after 3 rounds"),
        (Story(evaluation_interval=2, ordered={"iterations": 5}), "the end of training after 3 rounds"),
        (Story(iterations=4, evaluation_interval=3, ordered={"iterations": 3}), "an evaluation after 3 rounds"),
        (Story(iterations=4, evaluation_interval=5, ordered={"iterations": 3}), "a round 3"),
        (Story(ordered={"tolerance": 0.9}), "a round 2"),
        (Story(tolerance=0.9, ordered={"tolerance": 1e-9}), "the end of training after 2 rounds"),
    ],
)
def test_the_aggregator_keeps_to_the_rounds_and_evaluations_of_the_order(story: Story, claimed: str) -> None:
    report = audited(story.tell())
    assert report.first is not None and report.result is None
    assert (subject(report), report.first.party.role) == (Subject.SCHEDULE, "aggregator")
    assert report.first.claimed == claimed


def test_a_deviation_names_where_who_and_what_and_leaves_the_rest_unchecked(story: Story) -> None:
    report = audited(story.tell(Change("round 1 question", ("included",), lambda _: (0, 1))))
    assert report.first is not None
    assert str(report.first) == (
        f"aggregator ({AGGREGATOR.address}) in round 1: included = (0, 1) in a RoundQuestion was claimed, "
        "and (0, 1, 2) follows from what was said before"
    )
    assert report.result is None and report.delivery is None
    by_name = {check.name: check for check in report.checks}
    assert by_name[Subject.REQUEST].passed
    assert by_name[Subject.ERRORS].not_checked == "not beyond round 1, on which the rest depends"


def repacked(total: Any, hidden: rounds.MaskedVector) -> rounds.MaskedVector:
    """Return what masks and randomisers make of another sum."""
    key = KEY.public_key
    plain = pack_masked(total, hidden.masks, key)
    powers = [powmod(root, key.n, key.n_squared) for root in hidden.roots]
    return replace(hidden, packed=[c * power % key.n_squared for c, power in zip(plain, powers, strict=True)])


def updates(story: Story, round_: int, places: Iterable[int]) -> list[list[mpz]]:
    return [KEY.public_key.decode(story.memory[f"round {round_} {place}"], 4) for place in places]


def until(story: Story, name: str) -> dict[str, Any]:
    """Return what was drawn in a story before something was."""
    return dict(takewhile(lambda item: item[0] != name, story.memory.items()))


def test_an_update_that_the_aggregator_drops_while_it_lists_its_trainer_is_missed(story: Story, file: bytes) -> None:
    total = rounds.aggregate(updates(story, 0, (0, 2)), KEY.public_key)
    cheat = Story(memory={**story.memory, "refresh 0": repacked(total, story.memory["refresh 0"])})
    report = audited(cheat.tell())
    assert report.first is not None
    assert (subject(report), report.first.party.role, report.first.entry) == (Subject.MASKS, "aggregator", "refresh 0")


def test_a_mask_that_hides_nothing_is_found_though_everything_fits(story: Story, file: bytes) -> None:
    total = rounds.aggregate(updates(story, 1, range(3)), KEY.public_key)
    hidden = story.memory["refresh 1"]
    small = repacked(total, replace(hidden, masks=[1 << 119, *hidden.masks[1:]]))
    report = audited(Story(memory={**until(story, "refresh 1"), "refresh 1": small}).tell())
    assert report.first is not None
    assert (subject(report), report.first.party.role, report.first.entry) == (Subject.MASKS, "aggregator", "refresh 1")
    assert report.first.found == "one is out of range"


def test_a_validator_that_replays_an_old_answer_is_named_and_the_result_still_follows(
    story: Story, file: bytes
) -> None:
    memory = until(story, "score iteration 2 1")
    memory["score iteration 2 1"] = memory["score iteration 1 1"]
    report = audited(Story(memory=memory).tell())
    assert report.first is not None and not report.passed
    assert (subject(report), report.first.party.role, report.first.entry) == (
        Subject.SCORES,
        "validator 1",
        "score-iteration 2",
    )
    assert report.result is not None, "nothing rests on how fresh an answer is"
    other = f"the answer of validator 1 ({story.owners[4].address}) in score-iteration 1"
    assert report.first.found == f"it holds a ciphertext of {other}"


def test_two_validators_with_the_same_answer_are_both_named(story: Story, file: bytes) -> None:
    memory = until(story, "score zero 0 1")
    memory["score zero 0 1"] = memory["score zero 0 0"]
    report = audited(Story(memory=memory).tell())
    assert report.first is not None and report.result is not None
    assert report.first.party.role == "validator 1"
    assert report.first.found == (
        f"it holds a ciphertext of the answer of validator 0 ({story.owners[3].address}) in score-zero 0"
    )
    assert report.contributors == (0, 1, 2)


def with_evaluation(story: Story, file: bytes, round_: int) -> bytes:
    """Return the transcript with the evaluation of one round once more, under another round's name."""
    shown = read(io.BytesIO(file))
    records = dict(shown.records)
    for step in ("mask", "score", "total", "opening"):
        records[f"{step}-iteration", round_] = shown.records[f"{step}-iteration", 1]
    entries = [
        Entry(kind=kind, round=number, content=records[kind, number].pack())
        for kind, number in sorted(records, key=lambda name: position(*name))
    ]
    root = TranscriptRoot(training=TRAINING, root=merkle_root([e.pack() for e in entries]), entries=len(entries))
    return b"".join(write(entries, story.signed(AGGREGATOR, root, None)))


@pytest.mark.parametrize("round_", [-(2**63), -1, 0, 3, 4, 7, 2**63 - 1])
def test_an_evaluation_after_rounds_that_were_not_run_is_the_aggregators(
    story: Story, file: bytes, round_: int
) -> None:
    report = audited(with_evaluation(story, file, round_))
    assert report.first is not None and report.result is None
    assert report.first.party.role == "aggregator"
    assert report.first.claimed in (f"an evaluation after {round_} rounds", "round = 1 in a MaskedModels")


def test_an_evaluation_that_the_order_has_but_nobody_ran_is_the_aggregators() -> None:
    story = Story(tolerance=0.9)  # over after two rounds, of three that were ordered
    report = audited(with_evaluation(story, story.tell(), 3))
    assert report.first is not None and report.result is None
    assert (subject(report), report.first.party.role, report.first.claimed, report.first.found) == (
        Subject.SCHEDULE,
        "aggregator",
        "an evaluation after 3 rounds",
        "2 rounds were run",
    )


def test_the_first_deviation_in_the_order_of_the_protocol_stands_out(story: Story, file: bytes) -> None:
    # The sum of round 0 is wrong, which is seen when all n-th powers are checked, behind the buyer's false opening.
    hidden = story.memory["refresh 0"]
    cheat = Story(memory={**story.memory, "refresh 0": replace(hidden, roots=[hidden.roots[0] + 1, *hidden.roots[1:]])})
    report = audited(cheat.tell(Change("opening-settlement 3 answer", ("totals", 0), lambda total: f"1{total}")))
    assert report.first is not None
    assert (report.first.party.role, report.first.entry) == ("aggregator", "refresh 0")


def test_entries_that_belong_to_another_training_are_found(story: Story) -> None:
    other = Story()
    mine, theirs = read(io.BytesIO(story.tell())), read(io.BytesIO(other.tell()))
    entries = []
    for (kind, round_), record in mine.records.items():
        chosen = theirs.records[kind, round_] if kind == "local" else record
        entries.append(Entry(kind=kind, round=round_, content=chosen.pack()))
    root = TranscriptRoot(training=TRAINING, root=merkle_root([e.pack() for e in entries]), entries=len(entries))
    report = audited(b"".join(write(entries, story.signed(AGGREGATOR, root, None))))
    assert report.first is not None
    assert (report.first.party.role, report.first.entry) == ("aggregator", "mask-settlement 3")


def test_a_short_key_is_refused_unless_a_test_asks(file: bytes, story: Story) -> None:
    report = audit(read(io.BytesIO(file)), request_type=story.request_type)
    assert report.first is not None and report.first.party.role == "buyer"
    assert "512 bits instead of 2048" in report.first.found


def test_progress_goes_from_nothing_to_everything(file: bytes, story: Story) -> None:
    told: list[tuple[int, int]] = []
    audit(read(io.BytesIO(file)), lambda *done: told.append(done), 512, story.request_type)
    assert told[0] == (0, 23) and told[-1] == (23, 23)
    assert told == sorted(told)


def test_the_first_false_power_is_found_among_many() -> None:
    key = KEY.public_key
    private = KEY
    claims = []
    for value in range(20):
        (ciphertext,) = private.encrypt([value])
        _, root = private.opening(ciphertext)
        claims.append(Rerandomised(ciphertext, key.trivial(value), type(ciphertext)(root)))
    assert first_false(claims, key) is None
    assert first_false([], key) is None
    for place in (0, 7, 19):
        wrong = list(claims)
        wrong[place] = replace(claims[place], plain=key.trivial(place + 1))
        assert first_false(wrong, key) == place
    both = [replace(claim, plain=key.trivial(0)) for claim in claims]
    assert first_false(both, key) == 1


def test_a_replay_needs_neither_network_nor_database() -> None:
    code = "import sys, commons.audit; print({'web3', 'requests', 'sqlalchemy', 'flask'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
