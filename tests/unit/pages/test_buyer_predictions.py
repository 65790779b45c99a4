"""Predictions by page: made by form or file, shown, and listed."""

from __future__ import annotations

import io
import re
import uuid

from tests.unit.pages.buyer import Buyer


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


def test_past_predictions_are_listed_the_newest_first_by_model_or_all(buyer: Buyer) -> None:
    assert "Nothing was predicted yet." in buyer.get("/prediction").text
    first, second = buyer.model(name="first"), buyer.model(name="second")
    made = [
        buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": str(number)}).headers["Location"]
        for number, model in enumerate((first, second, first))
    ]
    everything = buyer.get("/prediction").text
    assert [link for link in re.findall(r'href="(/prediction/[^"]*)"', everything)] == made[::-1]
    assert re.findall(r">(first|second)</a></td>", everything) == ["first", "second", "first"]
    of_one = buyer.get(f"/prediction?model_id={first.id}").text
    assert [link for link in re.findall(r'href="(/prediction/[^"]*)"', of_one)] == [made[2], made[0]]
    assert "<h1>Predictions with first</h1>" in of_one
    assert f'href="/prediction?model_id={first.id}"' in buyer.get(made[0]).text


def test_past_predictions_are_paged(buyer: Buyer) -> None:
    model = buyer.model()
    for _ in range(21):
        buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "2"})
    for path in ("/prediction?", f"/prediction?model_id={model.id}&amp;"):
        first = buyer.get(path.replace("&amp;", "").rstrip("?")).text
        assert first.count("/prediction/") == 20 and f'rel="next" href="{path}offset=20"' in first
    last = buyer.get(f"/prediction?model_id={model.id}&offset=20").text
    assert last.count("/prediction/") == 1 and 'rel="prev"' in last and 'rel="next"' not in last


def test_others_predictions_are_as_if_they_did_not_exist(buyer: Buyer) -> None:
    assert buyer.get(f"/prediction?model_id={uuid.uuid4()}").status_code == 404


def test_api_lists_the_predictions_with_one_model(buyer: Buyer) -> None:
    wanted, other = buyer.model(), buyer.model()
    for model in (wanted, other, wanted):
        buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "2"})
    token = {"Authorization": f"Bearer {buyer.token()}", "Accept": "application/json"}
    listed = buyer.get(f"/predictions?model_id={wanted.id}", **token)
    answer = listed.get_json()
    assert {each["model_id"] for each in answer["predictions"]} == {str(wanted.id)} and answer["total"] == 2
