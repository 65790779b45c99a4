"""The page of a service's account, while the chain does not answer: tests/contract/test_pages.py has it on a chain."""

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
