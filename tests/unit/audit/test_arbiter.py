"""An arbiter at work: what it asks of whom, when it decides nothing, and what it takes for a refusal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from commons import command_line
from commons.audit import Report, arbiter, audit
from commons.audit.arbiter import Arbiter, Case, NoAnswer, NoEvidence
from commons.audit.onchain import Facts
from commons.chain.marketplace import ChainUnavailable
from commons.chain.training import Outcome, Result, Training
from commons.errors import Conflict
from commons.http.signatures import SIGNATURE_HEADER, encode_signature
from commons.protocol import disputes
from commons.protocol.disputes import NOT_DELIVERED, Copy, Difference
from commons.protocol.messages import Acknowledgement, Delivery
from commons.protocol.signed import Signed, Signer
from commons.protocol.transcript import Transcript, TranscriptRoot
from tests.unit.audit.chain import ARBITER, facts
from tests.unit.audit.evidence import Market, claim, copies, disputed, owners, transcript_of
from tests.unit.audit.parties import BUYER, TRAINING, Change, Story, account

TRANSCRIPT = f"/model/{TRAINING}/transcript"
LIST = "/dataowner"
STRANGER = account("stranger")
UNDELIVERED = Difference(NOT_DELIVERED, "the result it belongs to", "nothing came")


@dataclass(frozen=True)
class Answer:
    """What a server says: `missing` bytes of what it promises do not come, `promised` says whether it promises any."""

    status: int
    body: bytes = b""
    missing: int = 0
    promised: bool = True


Said = Answer | Callable[[], Answer] | bytes | int


@dataclass
class Server:
    """A server that says the same at a path again and again; a list is said one after the other, the last for ever."""

    url: str
    says: dict[str, Said | list[Said]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def answer(self, path: str) -> Answer:
        said = self.says.get(path, 404)
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        match said:
            case Answer():
                return said
            case bytes():
                return Answer(200, said)
            case int():
                return Answer(said, b"because")
        return said()


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            assert "signature" in self.headers
            self._say(server.answer(self.path.split("?")[0]))

        def do_PUT(self) -> None:
            server.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.bodies.append(body)
            signed = Signed(content=body, signature=b"")
            answer = Signer(BUYER, Story.domain).sign(Acknowledgement(), signed)
            self._say(Answer(200, answer.content), {SIGNATURE_HEADER: encode_signature(answer.signature)})

        def _say(self, answer: Answer, headers: dict[str, str] | None = None) -> None:
            self.send_response(answer.status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if answer.promised:
                self.send_header("Content-Length", str(len(answer.body) + answer.missing))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@cache
def audited(file: bytes) -> Report:
    return audit(transcript_of(file))


@dataclass
class Town:
    """A disputed training, and where everybody is: the aggregator, the buyer and the owners, at one server."""

    story: Story
    file: bytes
    shown: Transcript
    server: Server
    market: Market
    report: Report

    @classmethod
    def of(cls, story: Story, file: bytes, server: Server, reported: Result | None = None) -> Town:
        shown = transcript_of(file)
        report = audited(file)
        found = facts(story, report)
        server.says[TRANSCRIPT] = file
        town = cls(story, file, shown, server, Market(found, disputed(found, reported)), report)
        town.list_owners(dict.fromkeys(range(5), server.url))
        return town

    def list_owners(self, urls: dict[int, str]) -> None:
        """Have the aggregator say where owners are: under a path of their own at `urls`."""
        listed = [
            {"address": owners(self.story)[place].address, "url": f"{url}/owner-{place}"} for place, url in urls.items()
        ]
        self.server.says[LIST] = json.dumps({"data_owners": listed}).encode()

    def path(self, who: int | None) -> str:
        return f"/models/{TRAINING}/evidence" if who is None else f"/owner-{who}/trainings/{TRAINING}/evidence"

    def dispute(
        self, who: int | None, kept: list[Copy] | None = None, difference: Difference | None = None, first: bool = True
    ) -> None:
        """Have an owner, or the buyer, claim something with its copies; and be the one who disputes on chain."""
        account = BUYER if who is None else owners(self.story)[who]
        signed = claim(self.story, account, kept or [], difference or Difference("the final MSE", "1", "2"))
        self.server.says[self.path(who)] = b"".join(disputes.write(signed, kept or []))
        if first:
            self.market.evidence_hash = disputes.evidence_hash(signed)
            self.market.disputed = replace(self.market.disputed, disputer=account.address)

    def arbiter(self, **urls: str) -> Arbiter:
        market: Any = self.market
        return Arbiter(market, ARBITER, {BUYER.address: self.server.url, **urls}, pause_s=0.01)

    def examine(self, without_evidence: bool = False, auditing: Any = None, **urls: str) -> Case:
        auditing = auditing or (lambda _: self.report)
        return self.arbiter(**urls).examine(TRAINING, self.server.url, auditing, without_evidence)


@pytest.fixture(scope="module")
def file(whole_story: Story) -> bytes:
    return whole_story.tell()


@pytest.fixture
def town(whole_story: Story, file: bytes, server: Server) -> Town:
    town = Town.of(whole_story, file, server)
    town.dispute(None)
    return town


@pytest.fixture(scope="module")
def lost(whole_story: Story) -> Story:
    """The same training, in which the aggregator says that trainer 1 and validator 1 answered nothing at the end."""
    silent = frozenset({"local answer 1", "score-settlement 2 answer 1"})
    return Story(iterations=2, features=1, key=whole_story.key, silent=silent)


@pytest.fixture(scope="module")
def lost_file(lost: Story) -> bytes:
    return lost.tell()


@pytest.fixture
def lossy(lost: Story, lost_file: bytes, server: Server) -> Town:
    return Town.of(lost, lost_file, server)


class TestTheTranscript:
    """Who says no loses; who does not answer, or answers something else, is asked again another time."""

    def test_a_dispute_of_nothing_is_settled_as_reported(self, town: Town) -> None:
        case = town.examine(auditing=audit)
        assert case.decision.outcome is Outcome.AS_REPORTED, case.decision.reason
        assert case.report is not None and case.report.first is None and case.claim is not None
        assert {check.name for check in case.report.checks} > {"owners and their roles", "reported result"}

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_saying_no_twice_is_withholding(self, town: Town, status: int) -> None:
        town.server.says[TRANSCRIPT] = status
        case = town.examine()
        assert (case.decision.outcome, case.report) == (Outcome.REFUND, None)
        assert f"answered {status}: because" in case.decision.reason
        assert town.server.asked == [TRANSCRIPT] * 2, "and nobody else is asked"

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_saying_no_once_is_not(self, town: Town, status: int) -> None:
        town.server.says[TRANSCRIPT] = [status, town.file]
        assert town.examine().decision.outcome is Outcome.AS_REPORTED

    @pytest.mark.parametrize("status", [301, 400, 401, 408, 429, 500, 502, 503, 504])
    def test_any_other_answer_decides_nothing(self, town: Town, status: int) -> None:
        town.server.says[TRANSCRIPT] = status
        with pytest.raises(NoAnswer, match=f"neither shows its transcript nor says no: .*answered {status}"):
            town.examine()

    def test_a_refusal_and_then_a_failure_decide_nothing(self, town: Town) -> None:
        town.server.says[TRANSCRIPT] = [404, 503]
        with pytest.raises(NoAnswer):
            town.examine()

    def test_nobody_there_decides_nothing(self, town: Town) -> None:
        with serving() as gone:
            url = gone.url
        with pytest.raises(NoAnswer, match="does not answer: ConnectionError"):
            town.arbiter().examine(TRAINING, url, audit)
        for nonsense in ("http://", "nonsense", "http://[", "ftp://127.0.0.1"):
            with pytest.raises(NoAnswer):
                town.arbiter().examine(TRAINING, nonsense, audit)

    @pytest.mark.parametrize("cut", [{"missing": 5}, {"promised": False}])
    def test_a_download_that_is_cut_decides_nothing(self, town: Town, cut: dict[str, Any]) -> None:
        town.server.says[TRANSCRIPT] = Answer(200, town.file[:-5], **cut)
        with pytest.raises(NoAnswer):
            town.examine()

    def test_a_download_without_end_decides_nothing(self, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arbiter, "DEADLINE_S", 0.2)
        waiting = threading.Event()
        town.server.says[TRANSCRIPT] = lambda: Answer(200 if waiting.wait(5) else 500)
        with pytest.raises(NoAnswer, match="has not answered in 0.2 s"):
            town.examine()
        waiting.set()

    def test_a_download_has_a_largest_size(self, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arbiter, "LARGEST_BYTES", 1000)
        with pytest.raises(NoAnswer, match="sends more than 1000 bytes"):
            town.examine()

    @pytest.mark.parametrize("body", [b"", b"not a transcript"])
    def test_something_else_is_withholding(self, town: Town, body: bytes) -> None:
        town.server.says[TRANSCRIPT] = body
        assert town.examine().decision.outcome is Outcome.REFUND
        assert town.server.asked == [TRANSCRIPT] * 2


class TestAnotherTraining:
    """A transcript that was made up from end to end supports no result, and nobody whom it names is asked."""

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda t: replace(t, buyer=STRANGER.address), "the buyer"),
            (lambda t: replace(t, aggregator=STRANGER.address), "the aggregator"),
            (lambda t: replace(t, terms=replace(t.terms, order_hash=bytes(32))), "the hash of the order"),
            (lambda t: replace(t, owners=t.owners[::-1]), "the trainers"),
            (lambda t: replace(t, result=replace(t.result, transcript_root=bytes(32))), "the root"),
        ],
    )
    def test_is_refunded_before_anything_is_sent(
        self, town: Town, change: Callable[[Any], Training], what: str
    ) -> None:
        town.market.disputed = change(town.market.disputed)
        case = town.examine()
        assert (case.decision.outcome, case.request) == (Outcome.REFUND, None)
        assert f"{what}: " in case.decision.reason
        assert town.arbiter().settle(TRAINING, case) is None
        assert town.server.asked == [TRANSCRIPT] * 2
        assert town.market.resolved == [(Outcome.REFUND, None)]


class TestReplaying:
    """A transcript that breaks the replay is worth no result."""

    def test_a_replay_that_breaks_refunds_and_says_how(self, town: Town) -> None:
        def broken(shown: Transcript) -> Report:
            raise OverflowError("int too large")

        with capture_logs() as logs:
            case = town.examine(auditing=broken)
        assert (case.decision.outcome, case.report) == (Outcome.REFUND, None)
        assert case.decision.reason == "no result follows from the transcript: OverflowError"
        assert "int too large" in str(logs)

    def test_a_transcript_without_a_result_refunds_without_evidence(
        self, whole_story: Story, server: Server, whole_facts: Facts
    ) -> None:
        false = Change("opening-settlement 2 answer", ("totals", 0), lambda total: f"1{total}")
        file = whole_story.tell(false)
        shown = transcript_of(file)
        assert whole_facts.reported is not None
        root = replace(whole_facts.reported, transcript_root=_root(shown))
        server.says[TRANSCRIPT] = file
        market = Market(whole_facts, disputed(whole_facts, root))
        town = Town(whole_story, file, shown, server, market, audit(shown))
        case = town.examine()
        assert case.decision.outcome is Outcome.REFUND and "no result follows" in case.decision.reason
        assert server.asked == [TRANSCRIPT]


def _root(shown: Transcript) -> bytes:
    return TranscriptRoot.unpack(shown.root.content).root


class TestTheDisputersEvidence:
    """Evidence that cannot be had decides nothing; evidence that was had and is not its owner's does not count."""

    @pytest.mark.parametrize("status", [401, 429, 500, 503])
    @pytest.mark.parametrize("who", [None, 0])
    def test_a_service_that_is_broken_decides_nothing(self, town: Town, who: int | None, status: int) -> None:
        town.dispute(who)
        town.server.says[town.path(who)] = status
        with pytest.raises(NoEvidence, match="who disputes, cannot be had: .*--owner ADDRESS=URL.*--without-evidence"):
            town.examine()
        case = town.examine(without_evidence=True)
        assert case.decision.outcome is Outcome.AS_REPORTED and case.claim is None
        assert "cannot be had" in case.remarks[0]

    @pytest.mark.parametrize(
        "listed",
        [503, b"", b"[]", b'{"data_owners": [7]}', b'{"data_owners": []}', b"[" * 100_000, b'{"data_owners": null}'],
    )
    def test_an_aggregator_that_does_not_say_where_it_is_decides_nothing(self, town: Town, listed: bytes | int) -> None:
        town.dispute(0)
        town.server.says[LIST] = listed
        with pytest.raises(NoEvidence, match="--owner"):
            town.examine()
        own = {owners(town.story)[0].address: f"{town.server.url}/owner-0/"}
        case = town.examine(**own)
        assert case.decision.outcome is Outcome.AS_REPORTED and case.remarks == ()

    @pytest.mark.parametrize("said", [404, 403, b"something else", b""])
    def test_a_wrong_url_of_the_aggregators_does_not_speak_against_it(self, town: Town, said: bytes | int) -> None:
        town.dispute(0)
        evidence, town.server.says["/elsewhere" + town.path(0)] = town.server.says[town.path(0)], said
        town.list_owners({0: f"{town.server.url}/elsewhere"})
        with pytest.raises(NoEvidence, match="cannot be had where the aggregator says"):
            town.examine()
        town.server.says["/right" + town.path(0)] = evidence
        case = town.examine(**{owners(town.story)[0].address: f"{town.server.url}/right/owner-0"})
        assert case.claim is not None and case.remarks == ()

    @pytest.mark.parametrize("who", [None, 0])
    def test_a_service_that_says_no_once_is_asked_once_more(self, town: Town, who: int | None) -> None:
        town.dispute(who)
        town.server.says[town.path(who)] = [404, town.server.says[town.path(who)]]
        case = town.examine()
        assert case.claim is not None and case.remarks == ()

    def test_evidence_of_somebody_else_at_that_url_does_not_either(self, town: Town) -> None:
        town.dispute(0)
        theirs = claim(town.story, owners(town.story)[1], [])
        town.server.says[town.path(0)] = b"".join(disputes.write(theirs, []))
        with pytest.raises(NoEvidence, match="cannot be had where the aggregator says: .*its signature gives"):
            town.examine()

    @pytest.mark.parametrize("said", [404, 403, 410, b"something else"])
    def test_a_disputer_that_shows_none_itself_has_none(self, town: Town, said: bytes | int) -> None:
        town.server.says[town.path(None)] = said
        case = town.examine()
        assert case.decision.outcome is Outcome.AS_REPORTED
        assert "does not count" in case.remarks[0]

    @pytest.mark.parametrize("who", [None, 0])
    def test_another_claim_than_is_on_chain_does_not_count(self, town: Town, who: int | None) -> None:
        town.dispute(who, difference=UNDELIVERED)
        town.market.evidence_hash = bytes(32)
        case = town.examine()
        assert case.decision.outcome is Outcome.AS_REPORTED and case.claim is None
        assert "does not count: a claim with the hash 0000" in case.remarks[0]

    def test_other_copies_than_the_claim_names_do_not_count(self, town: Town) -> None:
        kept = copies(town.shown, 0, 3)
        town.dispute(0, kept)
        signed = claim(town.story, owners(town.story)[0], kept, Difference("the final MSE", "1", "2"))
        town.server.says[town.path(0)] = b"".join(disputes.write(signed, kept[:-1]))
        assert "the copies are not those that the claim names" in town.examine().remarks[0]

    def test_only_the_buyer_disputes_that_the_model_was_not_delivered(self, town: Town) -> None:
        town.dispute(None, difference=UNDELIVERED)
        assert town.examine().decision.outcome is Outcome.CORRECTED
        town.dispute(4, difference=UNDELIVERED)
        assert town.examine().decision.outcome is Outcome.AS_REPORTED

    def test_the_model_is_delivered_where_the_buyer_is_said_to_be(self, town: Town) -> None:
        town.dispute(None, difference=UNDELIVERED)
        case = town.examine()
        assert town.arbiter().settle(TRAINING, case) is None
        assert town.server.asked[-1] == f"/models/{TRAINING}"
        assert Delivery.unpack(town.server.bodies[-1]) == case.decision.delivery
        assert town.market.resolved == [(Outcome.CORRECTED, town.market.disputed.result)]


class TestThoseWhoAreLeftOut:
    """Whoever disputes first, every owner that is said not to have answered is asked for its copies."""

    def test_they_are_asked_though_the_buyer_was_faster_and_paid(self, lossy: Town, whole: Transcript) -> None:
        lossy.dispute(None)
        for place in (1, 4):
            lossy.dispute(place, copies(whole, place, 3), first=False)
        result = lossy.report.result
        assert result is not None
        assert (result.trainers_answered, result.validators_answered) == ((True, False, True), (True, False))
        case = lossy.examine()
        corrected = case.decision.corrected
        assert case.decision.outcome is Outcome.CORRECTED and corrected is not None, case.decision.reason
        assert corrected.trainers_answered == (True,) * 3 and corrected.validators_answered == (True,) * 2
        assert corrected.contributions == result.contributions and corrected.contributions[1] == 0

    def test_a_validators_answer_counts_whoever_disputes(self, lossy: Town, whole: Transcript) -> None:
        lossy.dispute(1, copies(whole, 1, 3))
        lossy.dispute(4, copies(whole, 4, 3), first=False)
        corrected = lossy.examine().decision.corrected
        assert corrected is not None and corrected.validators_answered == (True, True)

    def test_one_that_cannot_be_reached_holds_the_decision_up(self, lossy: Town, whole: Transcript) -> None:
        lossy.dispute(None)
        lossy.dispute(1, copies(whole, 1, 3), first=False)
        with pytest.raises(NoEvidence, match="who is said not to have answered, cannot be had where the aggregator"):
            lossy.examine()
        case = lossy.examine(without_evidence=True)
        assert case.decision.corrected is not None
        assert case.decision.corrected.trainers_answered == (True,) * 3
        assert case.decision.corrected.validators_answered == (True, False)
        assert owners(lossy.story)[4].address in case.remarks[0]

    def test_one_that_claims_nothing_where_it_is_known_to_be_did_not_answer(self, lossy: Town) -> None:
        lossy.dispute(None)
        known = {owners(lossy.story)[place].address: f"{lossy.server.url}/owner-{place}" for place in (1, 4)}
        case = lossy.examine(**known)
        assert case.decision.outcome is Outcome.AS_REPORTED and len(case.remarks) == 2

    def test_what_a_transcript_leaves_out_and_the_report_does_not_is_asked_too(
        self, lost: Story, lost_file: bytes, server: Server, whole: Transcript
    ) -> None:
        found = audited(lost_file).result
        assert found is not None
        town = Town.of(lost, lost_file, server, replace(found, trainers_answered=(True,) * 3))
        town.dispute(None)
        for place in (1, 4):
            town.dispute(place, copies(whole, place, 3), first=False)
        corrected = town.examine().decision.corrected
        assert corrected is not None and corrected.trainers_answered == (True,) * 3


class TestThePlace:
    """An arbiter decides its own disputes."""

    def test_what_is_not_disputed_is_not_decided(self, town: Town) -> None:
        town.market.disputed = town.market.facts.training
        with pytest.raises(Conflict, match="FINISHED"):
            town.examine()

    def test_nor_what_is_anothers_to_decide(self, town: Town) -> None:
        terms = replace(town.market.disputed.terms, arbiter=STRANGER.address)
        town.market.disputed = replace(town.market.disputed, terms=terms)
        with pytest.raises(Conflict, match="the arbiter of training"):
            town.examine()


class TestTheCommand:
    """``deltaml arbitrate``: exit status 0 only when there is a decision, and advice otherwise."""

    @pytest.fixture
    def run(self, town: Town, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        monkeypatch.setattr(command_line, "Marketplace", lambda *_: town.market)
        environment = {"COLUMNS": "500", "TERM": "dumb", "DELTAML_ACCOUNT_PRIVATE_KEY": "0x" + bytes(ARBITER.key).hex()}
        places = ["--chain", "http://127.0.0.1:9", "--contract", town.market.address, "--aggregator", town.server.url]
        buyer = ["--owner", f"{BUYER.address}={town.server.url}"]

        def run(*options: str) -> Any:
            return CliRunner().invoke(
                command_line.app, ["arbitrate", str(TRAINING), *places, *buyer, *options], env=environment
            )

        return run

    def test_a_decision_is_put_on_chain_once_the_model_is_there(self, town: Town, run: Callable[..., Any]) -> None:
        town.dispute(None, difference=UNDELIVERED)
        assert run("--dry-run").exit_code == 0
        assert (town.market.resolved, town.server.bodies) == ([], [])
        done = run()
        assert done.exit_code == 0, done.output
        assert "Decision: CORRECTED: the result stands" in done.output and "Resolved on chain." in done.output
        assert town.market.resolved == [(Outcome.CORRECTED, town.market.disputed.result)]
        assert Delivery.unpack(town.server.bodies[0]) == town.report.delivery

    def test_words_of_the_parties_are_shown_and_not_obeyed(self, town: Town, run: Callable[..., Any]) -> None:
        town.dispute(None, difference=Difference("[/bold] \x1b[2J", "[red]1", "2"))
        done = run()
        assert done.exit_code == 0, done.output
        assert "claims about [/bold] ?[2J:" in done.output and "reported  [red]1" in done.output
        town.server.says[TRANSCRIPT] = Answer(503, b"\x1b[2J[/x]")
        assert "\x1b" not in run().output

    def test_an_aggregator_that_does_not_answer_loses_only_if_the_arbiter_says_so(
        self, town: Town, run: Callable[..., Any]
    ) -> None:
        town.server.says[TRANSCRIPT] = 503
        done = run()
        assert (done.exit_code, town.market.resolved) == (1, [])
        assert "Try again; if it stays so, --refund-unanswered refunds the buyer" in done.output
        assert run("--refund-unanswered").exit_code == 0
        assert town.market.resolved == [(Outcome.REFUND, None)]

    def test_evidence_that_cannot_be_had_refunds_nobody(self, town: Town, run: Callable[..., Any]) -> None:
        town.server.says[town.path(None)] = 503
        done = run("--refund-unanswered")
        assert (done.exit_code, town.market.resolved) == (1, [])
        assert "or decide with --without-evidence" in done.output
        assert run("--without-evidence").exit_code == 0
        assert town.market.resolved == [(Outcome.AS_REPORTED, None)]

    def test_a_chain_that_does_not_answer_refunds_nobody(
        self, town: Town, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(training_id: Any) -> Any:
            raise ChainUnavailable("the chain does not answer")

        monkeypatch.setattr(town.market, "accepted", silent)
        assert run("--refund-unanswered", "--without-evidence").exit_code == 1
        assert town.market.resolved == []

    @pytest.mark.parametrize("option", ["", "http://somewhere", "0x12=http://somewhere", f"{STRANGER.address}=ftp://x"])
    def test_what_is_no_address_with_a_url_exits_with_2(self, town: Town, run: Callable[..., Any], option: str) -> None:
        done = run("--owner", option)
        assert done.exit_code == 2 and "is not an Ethereum address, =, and a URL" in done.output
        assert town.server.asked == []
