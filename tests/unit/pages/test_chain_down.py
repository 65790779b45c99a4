"""Pages of what is on the chain, while it does not answer: tests/contract/test_pages.py has them on a real one."""

from __future__ import annotations

from model_buyer.storage import Status
from tests.unit.pages.buyer import Buyer


def test_account_is_shown_as_far_as_it_is_known_while_the_chain_is_down(buyer: Buyer) -> None:
    buyer.model(Status.INITIATED)
    buyer.model(Status.IN_PROGRESS)
    buyer.model(Status.FINISHED)
    shown = buyer.get("/account")
    assert shown.status_code == 503
    assert "The chain does not answer now" in shown.text and "<button>Withdraw" not in shown.text
    assert "<dd>10\N{NO-BREAK SPACE}ETH</dd>" in shown.text  # of what is not over


def test_withdrawing_while_the_chain_is_down_says_so(buyer: Buyer) -> None:
    answer = buyer.post("/account/withdraw")
    assert answer.status_code == 503
    assert 'role="alert"' in answer.text and "the chain does not answer" in answer.text


def test_record_says_what_is_known_while_the_chain_is_down(buyer: Buyer) -> None:
    model = buyer.model(Status.FINISHED, key_proof=b"proof")
    assert buyer.get(f"/training/{model.id}").status_code == 200
    shown = buyer.get(f"/training/{model.id}/record")
    assert shown.status_code == 503
    assert "The chain does not answer now" in shown.text
    assert "Proved to the others" in shown.text  # the key
    assert shown.text.count("Chain does not answer</span>") == 3  # order, result, transcript
    assert buyer.get(f"/training/{model.id}/record", **{"HX-Request": "true"}).status_code == 200  # it is put in place
    token = {"Authorization": f"Bearer {buyer.token()}", "Accept": "application/json"}
    assert buyer.get(f"/models/{model.id}/record", **token).status_code == 503
