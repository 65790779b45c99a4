"""What an arbiter decides: whose copies count, what they prove, and which dispute was right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from commons.audit import Check, Deviation, Party, Report
from commons.audit.arbitration import Decision, Proven, decide, examine_copies, left_out, require_same
from commons.audit.onchain import Facts
from commons.chain.training import Outcome, Training
from commons.errors import VerificationFailed
from commons.protocol.disputes import NOT_DELIVERED, Copy, Difference
from commons.protocol.messages import Metric, ScoreQuestion, TrainingRequest, Vector
from commons.protocol.signed import Domain, Signed, Signer
from commons.protocol.transcript import Scores, Transcript
from tests.unit.audit.evidence import claimed, copies, disputed, owners
from tests.unit.audit.parties import AGGREGATOR, BUYER, Story, account

STRANGER = account("stranger")
UNDELIVERED = Difference(NOT_DELIVERED, "the result it belongs to", "nothing came")


@pytest.fixture(scope="module")
def on_chain(whole_facts: Facts) -> Training:
    return disputed(whole_facts)


@pytest.fixture(scope="module")
def request_(whole: Transcript) -> TrainingRequest:
    return whole.header.request.read(TrainingRequest)


class TestTheTrainingOnChain:
    """A transcript counts only for the training that it is of: everything in it can be made up, and fit together."""

    def test_that_of_the_training_gives_the_buyers_request(
        self, whole_story: Story, whole: Transcript, on_chain: Training
    ) -> None:
        assert require_same(whole, on_chain, whole_story.domain).buyer == BUYER.address

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda t: replace(t, aggregator=STRANGER.address), "the aggregator"),
            (lambda t: replace(t, buyer=STRANGER.address), "the buyer"),
            (lambda t: replace(t, id=type(t.id)(int=1)), "the training"),
            (lambda t: replace(t, terms=replace(t.terms, order_hash=bytes(32))), "the hash of the order"),
            (lambda t: replace(t, result=replace(t.result, transcript_root=bytes(32))), "the root"),
            (lambda t: replace(t, owners=(t.owners[1], t.owners[0], *t.owners[2:])), "the trainers"),
            (lambda t: replace(t, owners=(*t.owners[:3], t.owners[4], t.owners[3])), "the validators"),
            (lambda t: replace(t, trainer_count=2), "the trainers"),
            (lambda t: replace(t, owners=(replace(t.owners[0], rows=1), *t.owners[1:])), "the rows"),
        ],
    )
    def test_that_of_another_is_none(
        self, whole_story: Story, whole: Transcript, on_chain: Training, change: Callable[[Any], Training], what: str
    ) -> None:
        with pytest.raises(VerificationFailed, match=f"not that of the training on chain: .*{what}: "):
            require_same(whole, change(on_chain), whole_story.domain)

    @pytest.mark.parametrize(
        "domain", [Domain(1, Story.domain.contract), Domain(Story.domain.chain_id, "0x" + "1" * 40)]
    )
    def test_that_of_another_chain_or_contract_is_none(
        self, whole: Transcript, on_chain: Training, domain: Domain
    ) -> None:
        with pytest.raises(VerificationFailed, match="the chain: |the contract: "):
            require_same(whole, on_chain, domain)

    def test_a_request_that_the_buyer_did_not_sign_is_none(
        self, whole_story: Story, whole: Transcript, on_chain: Training
    ) -> None:
        header = whole.header
        forged = Signer(AGGREGATOR, whole_story.domain).sign(header.request.read(TrainingRequest))
        records = {**whole.records, ("header", 0): header.model_copy(update={"request": forged})}
        with pytest.raises(VerificationFailed, match="its signature gives"):
            require_same(Transcript(records, whole.root), on_chain, whole_story.domain)


class TestCopies:
    """An owner that shows the aggregator's signed questions with its own signed answers did answer."""

    @pytest.fixture
    def proven(self, whole: Transcript, on_chain: Training, request_: TrainingRequest) -> Callable[..., bool]:
        def proven(place: int, choose: Callable[[Copy], bool] = lambda copy: True, shown: Any = whole) -> bool:
            kept = [copy for copy in copies(shown, place, 3) if choose(copy)]
            owner = (*on_chain.trainers, *on_chain.validators)[place]
            return owner in examine_copies(kept, owner, on_chain, request_, 2).answered

        return proven

    @pytest.mark.parametrize("place", range(5))
    def test_all_copies_prove_it(self, proven: Callable[..., bool], place: int) -> None:
        assert proven(place)

    def test_a_trainer_that_was_not_asked_for_its_local_model_needs_none(self, proven: Callable[..., bool]) -> None:
        assert proven(0, lambda copy: copy.kind != "local")

    def test_a_trainer_needs_four_fifths_of_the_rounds(self, proven: Callable[..., bool]) -> None:
        assert not proven(0, lambda copy: (copy.kind, copy.round) != ("update", 1))

    def test_what_an_owner_calls_them_makes_no_difference(
        self, whole: Transcript, on_chain: Training, request_: TrainingRequest
    ) -> None:
        own = on_chain.trainers[0]
        twice = [copy.model_copy(update={"round": 5 + copy.round}) for copy in copies(whole, 0, 3) if copy.round == 0]
        assert not examine_copies(twice * 9, own, on_chain, request_, 2).answered
        theirs = [*copies(whole, 1, 3), *copies(whole, 3, 3)]
        assert not examine_copies(theirs, own, on_chain, request_, 2).answered
        assert not examine_copies(copies(whole, 0, 3), STRANGER.address, on_chain, request_, 2).answered

    def test_answers_to_questions_that_the_aggregator_did_not_sign_prove_nothing(
        self, whole: Transcript, on_chain: Training, request_: TrainingRequest
    ) -> None:
        other = replace(on_chain, aggregator=STRANGER.address)
        for place, owner in enumerate((*on_chain.trainers, *on_chain.validators)):
            assert not examine_copies(copies(whole, place, 3), owner, other, request_, 2).answered

    @pytest.mark.parametrize("ciphertexts", [b"", b"\0" * 512 * 11, b"\1" * 512, b"\1" * 512 * 10, b"\1" * 512 * 12])
    def test_what_is_no_vector_of_what_was_asked_for_is_no_answer(
        self, whole_story: Story, whole: Transcript, on_chain: Training, request_: TrainingRequest, ciphertexts: bytes
    ) -> None:
        for place in (0, 3):
            account = owners(whole_story)[place]
            kept = []
            for copy in copies(whole, place, 3):
                vector = Vector(ciphertexts=ciphertexts)
                answer = Signer(account, whole_story.domain).sign(vector, Signed.unpack(copy.question))
                kept.append(copy.model_copy(update={"answer": answer.pack()}))
            assert not examine_copies(kept, account.address, on_chain, request_, 2).answered

    def test_a_settlement_after_other_rounds_than_were_run_does_not_count(
        self, whole_story: Story, whole: Transcript, on_chain: Training, request_: TrainingRequest
    ) -> None:
        account = owners(whole_story)[3]
        assert not examine_copies(copies(whole, 3, 3), account.address, on_chain, request_, 1).answered
        record = whole.records["score-settlement", 2]
        assert isinstance(record, Scores)
        asked = record.question.read(ScoreQuestion).model_copy(update={"training": type(request_.training)(int=1)})
        question = Signer(AGGREGATOR, whole_story.domain).sign(asked)
        answer = Signer(account, whole_story.domain).sign(Vector.unpack(record.answers[0].content), question)
        kept = [Copy(kind="score-settlement", round=0, question=question.pack(), answer=answer.pack())]
        assert not examine_copies(kept, account.address, on_chain, request_, 2).answered

    def test_copies_that_make_no_sense_spoil_no_others(
        self, whole_story: Story, whole: Transcript, on_chain: Training, request_: TrainingRequest
    ) -> None:
        signer = Signer(AGGREGATOR, whole_story.domain)
        garbage = [
            Copy(kind=kind, round=0, question=question, answer=b"\xc1")
            for kind in ("update", "local", "metric-zero", "score-settlement")
            for question in (b"", b"\xc0", signer.sign(Vector(ciphertexts=b"")).pack())
        ]
        own = on_chain.trainers[0]
        found = examine_copies([*garbage, *copies(whole, 0, 3)], own, on_chain, request_, 2)
        assert found == Proven(frozenset({own}))

    def test_an_mse_that_the_aggregator_signed_without_evidence_is_a_lie(
        self, whole_story: Story, on_chain: Training, request_: TrainingRequest
    ) -> None:
        metric = Metric(
            training=request_.training,
            iteration=1,
            mse="5",
            statement=b"",
            cosignatures=(),
            ciphertexts=b"",
            totals=(),
            randomisers=(),
        )
        for who, lies in ((AGGREGATOR, True), (STRANGER, False)):
            question = Signer(who, whole_story.domain).sign(metric)
            copy = Copy(kind="metric-iteration", round=1, question=question.pack(), answer=question.pack())
            found = examine_copies([copy], on_chain.trainers[0], on_chain, request_, 2)
            assert (found.lie is not None) == lies


class TestDecisions:
    """A result that follows is paid by; a dispute of somebody else's harmless oddity is not right."""

    @staticmethod
    def decided(report: Report, on_chain: Training, difference: Difference | None = None, who: Any = BUYER) -> Decision:
        claim = None if difference is None else claimed(who, difference)
        return decide(report, on_chain, claim, Proven())

    def test_no_result_refunds(self, whole_report: Report, on_chain: Training) -> None:
        decision = self.decided(replace(whole_report, result=None), on_chain)
        assert (decision.outcome, decision.corrected, decision.delivery) == (Outcome.REFUND, None, None)

    def test_the_reported_result_stands_and_the_model_is_delivered(
        self, whole_report: Report, on_chain: Training
    ) -> None:
        decision = self.decided(whole_report, on_chain, Difference("the final MSE", "1", "2"))
        assert decision.outcome is Outcome.AS_REPORTED
        assert decision.delivery == whole_report.delivery is not None

    def test_another_result_is_corrected(self, whole_report: Report, on_chain: Training) -> None:
        assert on_chain.result is not None
        wrong = replace(on_chain, result=replace(on_chain.result, final_mse=1))
        decision = self.decided(whole_report, wrong)
        assert (decision.outcome, decision.corrected) == (Outcome.CORRECTED, whole_report.result)
        assert decision.reason == "the reported final_mse is not what follows"

    def test_only_the_buyer_can_say_that_the_model_was_not_delivered(
        self, whole_story: Story, whole_report: Report, on_chain: Training
    ) -> None:
        decision = self.decided(whole_report, on_chain, UNDELIVERED)
        assert (decision.outcome, decision.corrected) == (Outcome.CORRECTED, on_chain.result)
        assert decision.delivery is not None
        for owner in owners(whole_story):
            assert self.decided(whole_report, on_chain, UNDELIVERED, owner).outcome is Outcome.AS_REPORTED

    @pytest.mark.parametrize(
        ("roles", "outcome"),
        [
            (["validator 1"], Outcome.AS_REPORTED),
            (["buyer"], Outcome.AS_REPORTED),
            (["aggregator"], Outcome.CORRECTED),
            (["validator 0", "aggregator"], Outcome.CORRECTED),
        ],
    )
    def test_the_bond_goes_back_for_a_deviation_of_the_aggregator_only(
        self, whole_report: Report, on_chain: Training, roles: list[str], outcome: Outcome
    ) -> None:
        found = [Deviation(Party(role, STRANGER.address), "score-zero 0", "this", "that was found") for role in roles]
        report = whole_report.with_checks((), tuple(Check(str(i), 1, each) for i, each in enumerate(found)))
        decision = self.decided(report, on_chain)
        assert decision.outcome is outcome
        assert str(found[-1]) in decision.reason, "it says so in either case"
        assert decision.corrected == (on_chain.result if outcome is Outcome.CORRECTED else None)

    def test_a_lie_about_an_mse_gives_the_bond_back(self, whole_report: Report, on_chain: Training) -> None:
        decision = decide(whole_report, on_chain, None, Proven(lie="the aggregator told an MSE"))
        assert (decision.outcome, decision.corrected) == (Outcome.CORRECTED, on_chain.result)


class TestLeftOut:
    """Who is left out and proves its answers is paid, but for no more than it could have had by answering."""

    @pytest.fixture
    def lost(self, whole_report: Report) -> Report:
        result = whole_report.result
        assert result is not None
        contributions = (7, 0, 9)
        answered = (True, False, True)
        result = replace(
            result, contributions=contributions, trainers_answered=answered, validators_answered=(True, False)
        )
        return replace(whole_report, result=result, contributors=(0, 2))

    def test_those_are_asked_that_the_report_or_the_transcript_leaves_out(
        self, lost: Report, on_chain: Training
    ) -> None:
        everybody = (*on_chain.trainers, *on_chain.validators)
        assert left_out(on_chain, lost) == (everybody[1], everybody[4])
        assert left_out(replace(on_chain, result=lost.result), lost) == (everybody[1], everybody[4])
        assert on_chain.result is not None
        other = replace(on_chain.result, trainers_answered=(False, True, True))
        assert left_out(replace(on_chain, result=other), lost) == (everybody[0], everybody[1], everybody[4])

    def test_a_trainer_without_a_local_model_in_the_transcript_gets_its_fixed_part(
        self, lost: Report, on_chain: Training
    ) -> None:
        on_chain = replace(on_chain, result=lost.result)
        assert decide(lost, on_chain, None, Proven()).outcome is Outcome.AS_REPORTED
        decision = decide(lost, on_chain, None, Proven(frozenset({on_chain.trainers[1]})))
        assert decision.outcome is Outcome.CORRECTED and decision.corrected is not None
        assert decision.corrected.contributions == (7, 0, 9)
        assert decision.corrected.trainers_answered == (True, True, True)
        assert decision.corrected.validators_answered == (True, False)

    def test_one_with_a_local_model_in_it_keeps_its_own(self, lost: Report, on_chain: Training) -> None:
        lost = replace(lost, contributors=(0, 1, 2))
        on_chain = replace(on_chain, result=lost.result)
        decision = decide(lost, on_chain, None, Proven(frozenset({on_chain.trainers[1], on_chain.validators[1]})))
        assert decision.corrected is not None
        assert decision.corrected.contributions == (7, 0, 9)
        assert decision.corrected.validators_answered == (True, True)

    def test_what_several_prove_is_put_together(self) -> None:
        together = Proven(frozenset({"a"})) | Proven(frozenset({"b"}), "a lie") | Proven(lie="another")
        assert together == Proven(frozenset({"a", "b"}), "a lie")
