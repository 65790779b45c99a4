"""The model buyer's pages show and do what its API does."""

from __future__ import annotations

import io
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


def test_one_row_is_predicted_by_form(buyer: Buyer) -> None:
    model = buyer.model()
    answer = buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "-0.5"})
    assert answer.status_code == 303
    assert ">1.5</td>" in buyer.get(answer.headers["Location"]).text  # 1 + 2 · 1 + 3 · (−0.5)


def test_a_row_that_cannot_be_predicted_is_shown_again(buyer: Buyer) -> None:
    model = buyer.model()
    answer = buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "tall"})
    assert answer.status_code == 422
    assert '<a href="#rows.0.1">bmi</a>' in answer.text and "must be a number" in answer.text
    assert f'href="/training/{model.id}?language=es"' in answer.text


def test_a_file_is_predicted_and_kept_by_nobody(buyer: Buyer) -> None:
    model = buyer.model()
    sent = {"file": (io.BytesIO(b"age,bmi,y\n0,0,1\n1,1,6\n"), "rows.csv")}
    answer = buyer.post(f"/training/{model.id}/predict-file", sent)
    assert answer.status_code == 303
    shown = buyer.get(answer.headers["Location"]).text
    assert ">1</td>" in shown and ">6</td>" in shown and "R²" in shown
    assert not list((buyer.folder / "files").iterdir())


def test_a_file_that_does_not_match_is_refused_beside_its_field(buyer: Buyer) -> None:
    model = buyer.model()
    sent = {"file": (io.BytesIO(b"age,weight\n0,0\n"), "rows.csv")}
    answer = buyer.post(f"/training/{model.id}/predict-file", sent)
    assert answer.status_code == 422 and "the file has no column &#39;bmi&#39;" in answer.text
    assert not list((buyer.folder / "files").iterdir())
    assert buyer.post(f"/training/{model.id}/predict-file", {}).status_code == 415


def test_download_is_that_of_the_api(buyer: Buyer) -> None:
    model = buyer.model()
    by_page = buyer.get(f"/training/{model.id}/download?format=sklearn")
    bearer = {"Authorization": f"Bearer {buyer.token()}"}
    by_api = buyer.get(f"/models/{model.id}/download?format=sklearn", **bearer)
    assert by_page.data == by_api.data
    assert by_page.headers["Content-Disposition"] == by_api.headers["Content-Disposition"]
    assert buyer.get(f"/training/{model.id}/download?format=exe").status_code == 422
