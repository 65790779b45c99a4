"""The aggregator's status pages say how trainings, owners and the chain are doing, from what is stored and measured."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from commons.chain.marketplace import Status as ChainStatus
from commons.database import now
from commons.errors import PeerRefused, PeerUnavailable
from federated_aggregator.answer_times import AnswerTimes
from federated_aggregator.chain_view import TrainingView
from federated_aggregator.pages import bars, points
from federated_aggregator.storage import Status
from tests.unit.accounts import account
from tests.unit.pages.aggregator import TRAINERS, Aggregator
from tests.unit.pages.visitor import PASSWORD


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> AnswerTimes:
    """What the service notes of its owners' answers."""
    made = AnswerTimes()
    monkeypatch.setattr("federated_aggregator.app.AnswerTimes", lambda: made)
    return made


@pytest.fixture
def aggregator(tmp_path: Path, times: AnswerTimes) -> Iterator[Aggregator]:
    made = Aggregator(tmp_path)
    assert made.sign_up().status_code == 303
    yield made
    made.close()


def figure(html: str, name: str) -> str:
    """Return what a figure of the page shows."""
    found = re.search(rf"<dt>{re.escape(name)}</dt><dd[^>]*>(.*?)</dd>", html, re.DOTALL)
    assert found is not None, name
    return " ".join(re.sub("<[^>]*>", " ", found[1]).split())


def cells(html: str, row: str) -> list[str]:
    """Return what the row of a table shows whose first cell has `row` in it."""
    for found in re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL):
        texts = [
            " ".join(re.sub("<[^>]*>", " ", cell).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", found, re.DOTALL)
        ]
        if texts and row in texts[0]:
            return texts
    raise AssertionError(f"no row {row}")


def test_nobody_sees_the_status_without_logging_in(aggregator: Aggregator) -> None:
    paths = ("/", "/now", f"/training/{aggregator.order()}", f"/training/{aggregator.order()}/now")
    for path in paths:
        assert aggregator.get(path).status_code == 200
    aggregator.post("/logout")
    for path in paths:
        assert aggregator.get(path).headers["Location"].startswith("/login?next=")
        gone = aggregator.get(path, **{"HX-Request": "true"})
        assert gone.status_code == 401 and gone.headers["HX-Redirect"].startswith("/login")
    assert aggregator.post("/login", {"email": "ada@example.org", "password": PASSWORD}).status_code == 303
    assert aggregator.get("/").status_code == 200


def test_pages_take_no_writing(aggregator: Aggregator) -> None:
    for path in ("/", "/now", f"/training/{aggregator.order()}"):
        assert aggregator.post(path).status_code == 405


def test_empty_service_says_that_there_is_nothing_yet(aggregator: Aggregator) -> None:
    shown = aggregator.get("/").text
    assert "No training has been ordered here yet." in shown and "No data owner has registered yet." in shown
    assert figure(shown, "Chain") == "Not reachable" and "the chain does not answer" in shown


def test_running_training_shows_its_round_pace_and_owners(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=12, seconds=2.0)
    shown = aggregator.get("/").text
    _, state, stage, rounds, pace, mean, owners, failures = cells(shown, str(training_id)[:8])
    assert (state, rounds, owners, failures) == ("Training", "12 / 20", "3 / 3", "0")
    assert re.fullmatch("Rounds 2[2-9] s", stage)  # since the first one
    assert pace == mean == "30" and figure(shown, "Rounds per minute") == "30"


def test_pace_falls_while_a_round_takes_longer_than_usual_and_the_mean_does_not(
    aggregator: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_id = aggregator.running(rounds=11, seconds=2.0)
    monkeypatch.setattr("federated_aggregator.status.now", lambda: now() + timedelta(seconds=22))
    pace, mean = cells(aggregator.get("/").text, str(training_id)[:8])[4:6]
    assert 13 < float(pace) <= 15 and mean == "30"


def test_rounds_that_were_shown_are_not_read_again_and_new_ones_are(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=3)
    path = f"/training/{training_id}/now"
    assert figure(aggregator.get(path).text, "Round") == "3 / 20"
    with aggregator.database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE journal SET created = '2020-01-01' WHERE round = 1")
    aggregator.round(training_id, 3)
    shown = aggregator.get(path).text
    assert figure(shown, "Round") == "4 / 20"
    assert figure(shown, "Median") == "2.0 s"


def test_stages_of_a_training_are_told_apart(aggregator: Aggregator) -> None:
    def stage() -> str:
        return figure(aggregator.get(f"/training/{training_id}/now").text, "Phase")

    training_id = aggregator.order(iterations=2)
    assert stage().startswith("Joining")
    aggregator.begin(training_id)
    assert stage().startswith("Preparing")
    aggregator.round(training_id, 0)
    assert stage().startswith("Rounds")
    aggregator.round(training_id, 1)
    assert stage().startswith("Settlement")
    aggregator.storage.move(training_id, outcome={"transcript_root": "ab" * 32})
    assert stage().startswith("Delivering the model")
    aggregator.storage.move(training_id, delivered=True)
    assert stage().startswith("Review")
    aggregator.storage.move(training_id, Status.FINISHED)
    assert stage().startswith("Over") and stage().endswith("ago")


def test_finished_training_has_the_root_of_its_transcript_and_no_pace(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=20)
    assert figure(aggregator.get(f"/training/{training_id}").text, "Root of the transcript") == "once there is a result"
    aggregator.storage.move(training_id, outcome={"transcript_root": "ab" * 32}, delivered=True)
    aggregator.storage.move(training_id, Status.FINISHED)
    assert figure(aggregator.get(f"/training/{training_id}").text, "Root of the transcript") == "ab" * 32
    assert cells(aggregator.get("/").text, str(training_id)[:8])[4:6] == ["–", "30"]


@pytest.mark.parametrize(("on_chain", "asked"), [(ChainStatus.TRAINING, True), (ChainStatus.FINISHED, False)])
def test_page_is_asked_for_again_until_the_training_is_over_on_chain_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_chain: ChainStatus, asked: bool
) -> None:
    view = TrainingView(on_chain, accepted=3, recorded=1, deadline=None, dispute=None)
    monkeypatch.setattr("federated_aggregator.chain_view.ChainViews.training", lambda self, training_id: view)
    aggregator = Aggregator(tmp_path)
    aggregator.sign_up()
    path = f"/training/{aggregator.running(rounds=20)}"
    assert "hx-get" in aggregator.get(path).text
    aggregator.storage.move(uuid.UUID(path[-36:]), Status.FINISHED)
    assert ("hx-get" in aggregator.get(path).text) is asked
    aggregator.close()


def test_failed_training_says_why_and_hides_markup_of_others(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=2)
    aggregator.storage.move(training_id, Status.FAILED, reason="TooFewAnswered: <b>1 trainer</b>")
    for path in ("/", f"/training/{training_id}"):
        shown = aggregator.get(path).text
        assert "TooFewAnswered: &lt;b&gt;1 trainer&lt;/b&gt;" in shown and "<b>1" not in shown
    assert "Failed trainings" in aggregator.get("/").text


def test_owners_show_how_they_answered(aggregator: Aggregator, times: AnswerTimes) -> None:
    training_id = aggregator.running(rounds=2)
    address = TRAINERS[0]
    aggregator.storage.register(address, "http://127.0.0.1:5000")
    with times.asking(training_id, address):
        pass
    for error in (PeerUnavailable("gone"), PeerUnavailable("gone"), PeerRefused("http://o", 409, "<i>no</i>")):
        with pytest.raises(type(error)), times.asking(training_id, address):
            raise error
    overview, detail = aggregator.get("/").text, aggregator.get(f"/training/{training_id}").text
    for row in (cells(overview, address), cells(detail, address)):
        assert row[-4:] == ["1", "2", "1", "0"]  # answers, silent, refused, invalid
        assert row[-6].endswith("ms") and len(row) == 8
    assert cells(detail, address)[0].endswith("trains · http://127.0.0.1:5000")
    assert "registered" in cells(overview, address)[0] and "never registered here" in cells(detail, TRAINERS[1])[0]
    for shown in (overview, detail):
        assert figure(shown, "Unanswered questions") == "3"
        assert "http://o answered 409: &lt;i&gt;no&lt;/i&gt;" in shown


def test_mean_squared_errors_are_in_units_of_the_target(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=2)
    aggregator.storage.add_metric(training_id, 0, 10**18)
    aggregator.storage.add_metric(training_id, 5, 5 * 10**17)
    shown = aggregator.get(f"/training/{training_id}").text
    assert "Mean squared error: 16 at the start, 8 after 5 rounds." in shown  # of ±4
    assert 'points="0.00,0.00 100.00,50.00"' in shown


def test_course_has_every_step_with_the_time_after_the_one_before(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=20, seconds=2.0)
    shown = aggregator.get(f"/training/{training_id}").text
    for step, after in (("First round", "2.0 s"), ("Last round", "38.0 s")):
        assert cells(shown, step)[2] == after
    aggregator.storage.add_phases(training_id, {"rounds": (1.5, 2_500_000)})
    shown = aggregator.get(f"/training/{training_id}").text
    assert cells(shown[shown.index("Work by phase") :], "Rounds")[1:] == ["1.5 s", "2.5 MB"]


def test_lists_are_paged_apart(aggregator: Aggregator) -> None:
    ids = [aggregator.order() for _ in range(21)]
    for number in range(21):
        aggregator.storage.register(account(100 + number).address, "http://127.0.0.1:5000")
    first = aggregator.get("/").text
    assert 'rel="next" href="/?offset=20&amp;owners=0"' in first
    assert 'rel="next" href="/?offset=0&amp;owners=20"' in first
    second = aggregator.get("/?offset=20&owners=20").text
    assert cells(second, str(ids[0])[:8]) and cells(second, account(120).address)
    assert str(ids[1]) not in second and account(119).address not in second
    assert 'hx-get="/now?offset=20&amp;owners=20"' in second


@pytest.mark.parametrize("query", ["?offset=-1", "?owners=99999999999", "?offset=x"])
def test_parts_that_there_cannot_be_are_refused_or_are_the_first(aggregator: Aggregator, query: str) -> None:
    assert aggregator.get(f"/{query}").status_code in (200, 422)


def test_unknown_training_is_a_page_that_says_so(aggregator: Aggregator) -> None:
    answer = aggregator.get(f"/training/{uuid.uuid4()}")
    assert answer.status_code == 404 and "There is no such page" in answer.text


def test_fragments_are_what_the_pages_have(aggregator: Aggregator) -> None:
    training_id = aggregator.running(rounds=3)
    for path in ("/", f"/training/{training_id}"):
        page, part = aggregator.get(path).text, aggregator.get(f"{path.rstrip('/')}/now").text
        assert "<h1" in page and "<h1" not in part
        assert re.findall("<h2.*?</h2>", page) == re.findall("<h2.*?</h2>", part) != []


def test_many_rounds_are_a_chart_of_few_bars() -> None:
    assert bars([]) == []
    few = bars([1.0, 4.0])
    assert [(bar.first, bar.last, bar.seconds, bar.share) for bar in few] == [(1, 1, 1.0, 0.25), (2, 2, 4.0, 1.0)]
    many = bars([1.0] * 100 + [3.0] * 101, most=100)
    assert len(many) <= 100 and (many[0].first, many[-1].last) == (1, 201)
    assert sum(bar.seconds * (bar.last - bar.first + 1) for bar in many) == pytest.approx(403)


def test_a_curve_of_one_point_or_of_zeros_can_be_drawn() -> None:
    assert points([]) == ""
    assert points([(0, 2.0)]) == "0.00,0.00"
    assert points([(0, 0.0), (4, 0.0)]) == "0.00,100.00 100.00,100.00"
