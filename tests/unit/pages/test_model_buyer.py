"""The model buyer's pages show and do what its API does."""

from __future__ import annotations

import re
from typing import Any

from commons.pages.forms import Form
from model_buyer.api.models import OrderFields
from model_buyer.pages import HYPER_PARAMETERS, ORDER, TERMS
from model_buyer.storage import Status
from tests.unit.pages.buyer import Buyer

FILLED = {
    "name": "progression",
    "payments_requirements.pay_for_model.value": "0.100000000000000001",
    "payments_requirements.pay_for_model.unit": "ether",
    "data_requirements.features.list": "age, bmi\r\nbp",
    "data_requirements.features.range.0": "-2",
    "data_requirements.features.range.1": "2.5",
    "data_requirements.target.name": "target",
    "data_requirements.target.range.0": "25",
    "data_requirements.target.range.1": "346",
}
TRAINER = "0x" + "cd" * 20


def ordered(**changed: str) -> OrderFields:
    form = Form(OrderFields, (*ORDER, *HYPER_PARAMETERS, *TERMS))
    form.fill({name: field.value for name, field in form.fields.items()} | FILLED | changed)
    return form.read(model_type="LINEAR_REGRESSION", user_id="00000000-0000-0000-0000-000000000007")


def test_form_filled_in_with_its_defaults_orders_what_the_api_orders_by_default() -> None:
    read = ordered()
    body: dict[str, Any] = {
        "model_type": "LINEAR_REGRESSION",
        "name": "progression",
        "user_id": "00000000-0000-0000-0000-000000000007",
        "payments_requirements": {"pay_for_model": {"unit": "ether", "value": "0.100000000000000001"}},
        "data_requirements": {
            "features": {"list": ["age", "bmi", "bp"], "range": [-2, 2.5]},
            "target": {"name": "target", "range": [25, 346]},
        },
    }
    assert read == OrderFields.model_validate(body)
    assert read.payments_requirements.pay_for_model.wei == 100_000_000_000_000_001  # to the wei


def test_what_an_order_lacks_is_said_beside_each_field(buyer: Buyer) -> None:
    changed = {"data_requirements.features.range.0": "3", "hyper_parameters.iterations": "many", "name": ""}
    answer = buyer.post("/order", FILLED | changed)
    assert answer.status_code == 422
    for name in ("data_requirements.features.range.0", "hyper_parameters.iterations", "name"):
        assert f'<a href="#{name}">' in answer.text
        assert f'id="{name}-error"' in answer.text
    assert "the lower bound 3 must be below the upper bound 2.5" in answer.text
    assert 'value="346"' in answer.text and "age, bmi\r\nbp" in answer.text  # what was sent is still there


def test_an_amount_with_millions_of_decimals_is_refused_before_it_is_calculated_with(buyer: Buyer) -> None:
    answer = buyer.post("/order", FILLED | {"payments_requirements.pay_for_model.value": "1e-9999999"})
    assert answer.status_code == 422 and "no more than 100 digits" in answer.text


def test_an_order_that_others_keep_from_being_placed_is_shown_again_with_the_reason(buyer: Buyer) -> None:
    answer = buyer.post("/order", FILLED)  # there is no chain
    assert answer.status_code == 503
    assert 'role="alert"' in answer.text and 'value="progression"' in answer.text


def test_list_shows_state_improvement_and_cost(buyer: Buyer) -> None:
    assert "You have not ordered a training yet." in buyer.get("/").text
    outcome = {"initial_mse": 4.0, "mse": 1.0, "iterations": 20, "trainers": []}
    buyer.model(Status.FINISHED, outcome=outcome, spent=3 * 10**18)
    buyer.model(Status.INITIATED)
    shown = buyer.get("/").text
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", shown)
    assert "progression &lt;b&gt;" in shown
    assert {"Finished", "75.0\N{NO-BREAK SPACE}%", "3\N{NO-BREAK SPACE}ETH"} <= set(cells)
    assert {"Waiting for data owners", "–", "5\N{NO-BREAK SPACE}ETH"} <= set(cells)


def test_what_was_refunded_is_no_cost_in_the_list(buyer: Buyer) -> None:
    buyer.model(Status.CANCELLED)
    shown = buyer.get("/").text
    assert "0\N{NO-BREAK SPACE}ETH" in shown and "5\N{NO-BREAK SPACE}ETH" not in shown


def test_an_order_that_waits_says_for_whom_and_shows_all_that_was_ordered(buyer: Buyer) -> None:
    model = buyer.model(Status.INITIATED)
    shown = buyer.get(f"/training/{model.id}").text
    wanted = model.parsed_order.participants.wanted
    assert f"It begins as soon as {wanted} data owners have accepted." in shown
    ordered = {
        "Values of the target": "-1 to 1",
        "Data owners at least": str(model.parsed_order.participants.minimum),
        "Time to join": "1\N{NO-BREAK SPACE}d",
        "Fixed share": "10.0\N{NO-BREAK SPACE}%",
    }
    for name, value in ordered.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in shown


def test_list_is_paged_the_newest_first(buyer: Buyer) -> None:
    for number in range(25):
        buyer.model(Status.INITIATED, name=f"number {number:02}")
    first, second = buyer.get("/").text, buyer.get("/?offset=20").text
    assert first.count("number ") == 20 and "number 24" in first and 'rel="next" href="?offset=20"' in first
    assert second.count("number ") == 5 and "number 00" in second and 'rel="prev" href="?offset=0"' in second


def test_a_training_shows_every_payment_and_contribution(buyer: Buyer) -> None:
    validator = "0x" + "ab" * 20
    trainer = {"data_owner": TRAINER, "partial_MSE": 1.5, "contributions": 0.7}
    model = buyer.model(
        Status.FINISHED,
        outcome={"initial_mse": 2.0, "mse": 1.0, "iterations": 20, "trainers": [trainer]},
        payments={TRAINER: str(2 * 10**18), validator: str(10**18)},
        spent=3 * 10**18,
    )
    shown = buyer.get(f"/training/{model.id}").text
    assert TRAINER in shown and validator in shown
    rows = re.findall(r"<tr>(.*?)</tr>", shown, flags=re.DOTALL)
    (trained,) = (row for row in rows if TRAINER in row)
    (validated,) = (row for row in rows if validator in row)
    assert ">70.0\N{NO-BREAK SPACE}%<" in trained and ">2\N{NO-BREAK SPACE}ETH<" in trained
    assert ">1\N{NO-BREAK SPACE}ETH<" in validated
    assert [">3\N{NO-BREAK SPACE}ETH<" in row for row in rows if "Spent" in row] == [True]
    assert [">2\N{NO-BREAK SPACE}ETH<" in row for row in rows if "Returned to you" in row] == [True]
    assert f'aria-label="{TRAINER}: 70.0\N{NO-BREAK SPACE}%"' in shown
    assert f'aria-label="{validator}: 1\N{NO-BREAK SPACE}ETH"' in shown


def test_standardisation_is_ordered_by_choice_and_its_limit_is_told_beside_it(buyer: Buyer) -> None:
    field = "data_requirements.features.pre_processing.0.method"
    assert [step.method for step in ordered(**{field: "standard"}).data_requirements.features.pre_processing] == [
        "standard"
    ]
    page = buyer.get("/order").text
    assert f'aria-describedby="{field}-help"' in page
    assert "who orders and also has one of the trainers" in page
    refused = buyer.post(
        "/order", FILLED | {field: "standard", "participants.wanted": "3", "participants.minimum": "3"}
    )
    assert refused.status_code == 422
    assert 'id="participants.minimum-error"' in refused.text and "ask for more owners" in refused.text
    assert '<option value="standard" selected>' in refused.text


def test_every_field_of_an_order_is_explained_and_has_its_default(buyer: Buyer) -> None:
    page = buyer.get("/order").text
    names = re.findall(r'<(?:input|select|textarea)[^>]* name="([^"]+)"', page)
    assert set(names) == {*ORDER, *HYPER_PARAMETERS, *TERMS}
    explained = set(re.findall(r'<small id="([^"]+)-help">', page))
    assert set(names) - explained == set()
    empty = set(re.findall(r'<input[^>]* value=""[^>]* name="([^"]+)"', page))
    assert all(name == "name" or "range" in name or "value" in name for name in empty)


def test_trainings_under_way_show_how_far_they_are_and_are_asked_for_again(buyer: Buyer) -> None:
    finished = buyer.model(Status.FINISHED)
    assert "hx-trigger" not in buyer.get("/").text
    model = buyer.model(Status.IN_PROGRESS)
    buyer.storage.add_metric(model.id, 0, 10**18)
    buyer.storage.add_metric(model.id, 5, 5 * 10**17)
    whole, part = buyer.get("/").text, buyer.get("/", **{"HX-Request": "true"}).text
    assert '<progress value="5" max="20"' in whole and whole.count("<progress") == 1
    assert 'hx-trigger="every 5s"' in whole and part.strip() in whole and "<html" not in part
    assert f"/training/{finished.id}" in part


def test_the_first_visitor_is_told_what_to_do(buyer: Buyer) -> None:
    page = buyer.get("/").text
    assert page.count("<li>Order one") == 1 and 'href="/order"' in page


def test_a_training_under_way_shows_what_it_would_cost_now(buyer: Buyer) -> None:
    model = buyer.model(Status.IN_PROGRESS)
    assert "In escrow" in buyer.get(f"/training/{model.id}").text
    buyer.storage.add_metric(model.id, 0, 10**18)
    buyer.storage.add_metric(model.id, 5, 5 * 10**17)
    page = buyer.get(f"/training/{model.id}").text
    # Of 5 ether: a tenth, a fifth, and of seven tenths a tenth and half of the rest.
    assert "<dd>3.425\N{NO-BREAK SPACE}ETH</dd>" in page and "50.0\N{NO-BREAK SPACE}%" in page


def test_what_is_over_is_removed_after_it_was_confirmed(buyer: Buyer) -> None:
    model = buyer.model(Status.FINISHED)
    assert f'href="/training/{model.id}/end"' in buyer.get(f"/training/{model.id}").text
    asked = buyer.get(f"/training/{model.id}/end").text
    assert "Remove this training?" in asked and "what was predicted with it is deleted" in asked
    (seen,) = re.findall(r'name="updated" value="([^"]+)"', asked)
    answer = buyer.post(f"/training/{model.id}/end", {"updated": seen})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "The training was removed." in buyer.get("/").text
    assert buyer.get(f"/training/{model.id}").status_code == 404


def test_what_has_changed_since_it_was_seen_is_not_removed(buyer: Buyer) -> None:
    model = buyer.model(Status.FAILED)
    (seen,) = re.findall(r'name="updated" value="([^"]+)"', buyer.get(f"/training/{model.id}/end").text)
    buyer.storage.move(model.id, reason="something else")
    answer = buyer.post(f"/training/{model.id}/end", {"updated": seen})
    assert answer.status_code == 409 and "it has changed since you saw it" in answer.text
    assert buyer.get(f"/training/{model.id}").status_code == 200
    assert buyer.post(f"/training/{model.id}/end").status_code == 422


def test_what_is_under_way_or_cancelled_is_not_offered_to_be_ended(buyer: Buyer) -> None:
    for status in (Status.IN_PROGRESS, Status.CANCELLED):
        model = buyer.model(status)
        assert "/end" not in buyer.get(f"/training/{model.id}").text
        assert buyer.get(f"/training/{model.id}/end").headers["Location"] == f"/training/{model.id}"
