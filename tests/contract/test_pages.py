"""What pages show of the chain, and do there: a buyer's service in this process, on a real one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from commons.chain.marketplace import Outcome
from commons.chain.marketplace import Status as ChainStatus
from commons.journal import Journal
from commons.protocol.messages import Standardisation
from model_buyer.answering import ASKED, MOMENTS
from model_buyer.storage import Status
from tests.unit.pages.buyer import Buyer

from .world import HOUR, World, address_of


@pytest.fixture
def buyer(world: World, tmp_path: Path) -> Iterator[Buyer]:
    """The service of the buyer of the trainings in the world, whose operator is logged in."""
    assert world.buyer.account is not None
    key = world.buyer.account.key.to_0x_hex()
    made = Buyer(tmp_path, chain_url=world.rpc_url, contract_address=world.address, account_private_key=key)
    assert made.sign_up().status_code == 303
    yield made
    made.close()


def test_credit_is_withdrawn_by_click(world: World, buyer: Buyer) -> None:
    assert "The contract owes this account nothing" in buyer.get("/account").text
    world.finished()
    account = address_of(world.buyer)
    credit = world.buyer.credit(account)
    shown = buyer.get("/account").text
    (button,) = (line for line in shown.splitlines() if "<button>Withdraw" in line)
    assert world.address in shown and account in shown and "model buyer" in shown
    answer = buyer.post("/account/withdraw")
    assert answer.status_code == 303
    assert world.buyer.credit(account) == 0
    assert world.buyer.ledger(account) == (credit, credit)
    assert "The credit was withdrawn" in buyer.get(answer.headers["Location"]).text
    again = buyer.post("/account/withdraw")
    assert again.status_code == 409 and "there is nothing to withdraw" in again.text
    assert button not in again.text


def rows(page: str) -> list[list[str]]:
    """Return the texts of the cells of every row of a page's tables."""
    found = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL) for row in found]
    return [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in cells if row]


def findings(page: str) -> dict[str, str]:
    """Return what a page says about each thing that is verified."""
    found = re.findall(r'<span class="finding">(.*?)</span>\s*<span><strong>(.*?)</strong>', page)
    return {what: finding for finding, what in found}


def test_record_tells_every_event_with_whose_transaction_it_was(world: World, buyer: Buyer) -> None:
    training_id = world.started()
    for iteration in (0, 5):
        world.aggregator.save_mse(training_id, iteration, 10**18 // (1 + iteration))
    world.aggregator.report_result(training_id, world.result(training_id))
    world.buyer.finish_model_training(training_id, world.buyer.training(training_id).digest)
    buyer.model(Status.FINISHED, id=training_id)
    page = buyer.get(f"/training/{training_id}/record")
    assert page.status_code == 200
    events = sorted(world.buyer.events(training_id), key=lambda event: event.name == "MseSaved")
    made = world.buyer.transactions(events)
    shown = rows(page.text)
    assert len(shown) == len(events) == 12 + 8
    for (text, by, time, block, transaction), event, each in zip(shown, events, made, strict=True):
        assert (block, transaction) == (str(event.block), event.transaction)
        assert by.endswith(each.sender)
        assert time == f"{datetime.fromtimestamp(each.time, UTC):%Y-%m-%d %H:%M} UTC"
        for account in ("owner", "receiver"):
            assert event.values.get(account, "") in text
    texts = [re.sub(" +", " ", row[0]) for row in shown]
    assert texts[:2] == ["Ordered", f"5\N{NO-BREAK SPACE}ETH paid into escrow {address_of(world.buyer)}"]
    assert texts[-2:] == ["Error 1 after 0 iterations", "Error 0.166667 after 5 iterations"]
    assert [row[1].split()[:2] for row in shown[:3]] == [["this", "service"], ["this", "service"], ["a", "data"]]
    assert world.buyer.training(training_id).digest.hex() in page.text


def test_record_is_a_part_of_the_page_for_scripts(world: World, buyer: Buyer) -> None:
    training_id = world.order()
    buyer.model(Status.INITIATED, id=training_id)
    whole = buyer.get(f"/training/{training_id}/record").text
    part = buyer.get(f"/training/{training_id}/record", **{"HX-Request": "true"}).text
    assert part.strip() in whole and "<html" not in part
    assert f'hx-get="/training/{training_id}/record"' in buyer.get(f"/training/{training_id}").text
    assert buyer.get(f"/training/{uuid.uuid4()}/record").status_code == 404


def test_what_is_confirmed_on_chain_was_checked_here_and_nothing_else(world: World, buyer: Buyer) -> None:
    confirmed, settled, reported = world.finished(), world.reported(), world.reported()
    world.pass_time(HOUR + 1)
    world.stranger.finalize(settled)
    for training_id, status in (
        (confirmed, Status.FINISHED),
        (settled, Status.FINISHED),
        (reported, Status.IN_PROGRESS),
    ):
        buyer.model(status, id=training_id)
    found = [findings(buyer.get(f"/training/{each}/record").text) for each in (confirmed, settled, reported)]
    assert [each["Reported result"] for each in found] == ["Checked here", "Not confirmed here", "Not yet"]
    assert [each["Transcript"] for each in found] == ["Not checked here"] * 3
    assert [each["Sums of errors"] for each in found] == ["Did not come to it", "Did not come to it", "Not yet"]
    assert [each["Order"] for each in found] == ["Differs"] * 3  # the world's orders have a hash of their own


def test_checks_are_counted_by_the_answers_that_are_kept(world: World, buyer: Buyer) -> None:
    model = buyer.model(Status.IN_PROGRESS, id=world.started(), key_proof=b"proof", weights=[0.0, 0.0, 0.0])
    journal = Journal(buyer.database)
    for kind, round_ in [("open-zero", 0), ("open-iteration", 5), ("open-iteration", 10), ("products-iteration", 5)]:
        journal.keep(model.id, ASKED + kind, round_, b"digest", b"")
        journal.keep(model.id, kind, round_, b"question", b"answer")
    journal.keep(model.id, ASKED + "open-iteration", 15, b"digest", b"")  # refused: nothing was answered
    page = buyer.get(f"/training/{model.id}/record").text
    found = findings(page)
    assert (found["Encryption key"], found["Delivered model"]) == ("Proved to the others", "Checked here")
    assert (found["Sums of errors"], found["Opened sums"]) == ("Checked here", "Proved to the others")
    assert page.count("<small>3 times</small>") == 2 and page.count("<small>once</small>") == 1
    assert found["Divisions of masked rounds"] == "Not yet"
    assert "Sums of the features&#39; moments" not in page  # the order does not standardise


def test_moments_are_verified_where_the_order_standardises(world: World, buyer: Buyer) -> None:
    plain = buyer.model(Status.CANCELLED).parsed_order
    requirements = plain.data_requirements
    features = requirements.features.model_copy(update={"pre_processing": (Standardisation(method="standard"),)})
    order = plain.model_copy(update={"data_requirements": requirements.model_copy(update={"features": features})})
    model = buyer.model(Status.IN_PROGRESS, id=world.started(), order=order.canonical())
    what = "Sums of the features&#39; moments"
    assert findings(buyer.get(f"/training/{model.id}/record").text)[what] == "Not yet"
    Journal(buyer.database).keep(model.id, MOMENTS, 0, b"question", b"answer")
    found = findings(buyer.get(f"/training/{model.id}/record").text)
    assert (found[what], found["Opened sums"]) == ("Checked here", "Proved to the others")


def test_order_that_is_on_chain_as_it_is_here_is_found_so(world: World, buyer: Buyer) -> None:
    model = buyer.model(Status.FINISHED)
    training_id = world.order(order_hash=model.parsed_order.digest())
    buyer.model(Status.INITIATED, id=training_id)
    assert findings(buyer.get(f"/training/{training_id}/record").text)["Order"] == "Checked here"


def test_dispute_shows_who_disputes_why_until_when_and_the_decision(world: World, buyer: Buyer) -> None:
    training_id = world.disputed()
    dispute = {
        "disputer": address_of(world.buyer),
        "reason": "the model was not delivered by half of the review period: nothing came",
        "evidence_hash": "ab" * 32,
        "outcome": None,
    }
    model = buyer.model(Status.IN_PROGRESS, id=training_id, dispute=dispute, claim=b"claim")
    page = buyer.get(f"/training/{training_id}/record").text
    assert findings(page)["Reported result"] == "Differs"
    until = datetime.fromtimestamp(world.buyer.training(training_id).deadline, UTC).isoformat()
    assert until in page and "Arbiter decides until" in page and address_of(world.arbiter) in page
    assert dispute["reason"] in page and "none yet" in page
    assert f"deltaml arbitrate {training_id} --chain URL --contract {world.address}" in page
    world.arbiter.resolve(training_id, Outcome.REFUND)
    buyer.storage.move(model.id, Status.FAILED, dispute=dispute | {"outcome": "REFUND"})
    page = buyer.get(f"/training/{training_id}/record").text
    assert page.count("the payment is refunded") == 2 and "Arbiter decides until" not in page
    assert "Dispute decided: the payment is refunded" in page


def test_record_of_what_the_contract_does_not_know_says_so(buyer: Buyer) -> None:
    model = buyer.model(Status.INITIATED)
    page = buyer.get(f"/training/{model.id}/record").text
    assert "nothing on record of this training yet" in page and findings(page)["Order"] == "Not yet"


def test_api_has_the_record_in_parts(world: World, buyer: Buyer) -> None:
    training_id = world.finished()
    buyer.model(Status.FINISHED, id=training_id)
    token = {"Authorization": f"Bearer {buyer.token()}", "Accept": "application/json"}
    whole = buyer.get(f"/models/{training_id}/record?limit=100", **token).get_json()
    events = world.buyer.events(training_id)
    assert (whole["contract"], whole["chain_id"], whole["status"]) == (world.address, 31337, "FINISHED")
    assert [(each["event"], each["values"], each["block"]) for each in whole["events"]] == [
        (event.name, event.values, event.block) for event in events
    ]
    assert whole["events"][2]["call"] == "acceptTraining" and whole["events"][2]["time"].endswith("Z")
    part = buyer.get(f"/models/{training_id}/record?limit=3&offset=4", **token).get_json()
    assert part["events"] == whole["events"][4:7] and part["total"] == len(events)
    assert buyer.get(f"/models/{uuid.uuid4()}/record", **token).status_code == 404


def test_order_is_cancelled_by_click_until_somebody_has_accepted_it(world: World, buyer: Buyer) -> None:
    for accepted, status in ((False, 303), (True, 409)):
        training_id = world.order()
        buyer.model(Status.INITIATED, id=training_id)
        if accepted:
            world.owners[0].accept_training(training_id, 10)
        asked = buyer.get(f"/training/{training_id}/end").text
        assert "Cancel this order?" in asked
        (seen,) = re.findall(r'name="updated" value="([^"]+)"', asked)
        answer = buyer.post(f"/training/{training_id}/end", {"updated": seen})
        assert answer.status_code == status
        assert world.status(training_id) is (ChainStatus.OPEN if accepted else ChainStatus.CANCELLED)
        if accepted:
            assert 'role="alert"' in answer.text and "1 data owners have accepted" in answer.text
        else:
            assert "its payment refunded" in buyer.get(answer.headers["Location"]).text
