"""What was said once is repeated word for word, whatever happens in between."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commons.database import Database, now
from commons.errors import Conflict
from commons.journal import JOURNAL, Journal

TRAINING = uuid.UUID(int=7)


def never() -> bytes:
    raise AssertionError("an answer was computed again")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'service.db'}"


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    on = Database(url)
    JOURNAL.create(on.engine)
    yield Journal(on)
    on.close()


def test_same_question_gets_the_same_answer_without_computing_it(journal: Journal) -> None:
    assert journal.once(TRAINING, "update", 3, b"question", lambda: b"answer") == b"answer"
    assert journal.once(TRAINING, "update", 3, b"question", never) == b"answer"


def test_other_question_of_the_same_name_is_refused(journal: Journal) -> None:
    journal.once(TRAINING, "update", 3, b"question", lambda: b"answer")
    with pytest.raises(Conflict, match=f"training {TRAINING} has already been answered another update 3"):
        journal.once(TRAINING, "update", 3, b"other", never)
    assert journal.once(TRAINING, "update", 3, b"question", never) == b"answer"


@pytest.mark.parametrize("name", [(uuid.UUID(int=8), "update", 3), (TRAINING, "score", 3), (TRAINING, "update", 4)])
def test_other_names_have_other_answers(journal: Journal, name: tuple[uuid.UUID, str, int]) -> None:
    journal.once(TRAINING, "update", 3, b"question", lambda: b"answer")
    assert journal.find(*name) is None
    assert journal.once(*name, b"question", lambda: b"another") == b"another"


def test_answer_is_saved_before_it_is_given(journal: Journal, url: str) -> None:
    given = journal.once(TRAINING, "update", 3, b"question", lambda: b"answer")
    restarted = Database(url)
    assert Journal(restarted).once(TRAINING, "update", 3, b"question", never) == given
    restarted.close()


def test_crash_while_the_answer_is_computed_leaves_the_question_open(journal: Journal) -> None:
    def crash() -> bytes:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        journal.once(TRAINING, "update", 3, b"question", crash)
    assert journal.find(TRAINING, "update", 3) is None
    assert journal.once(TRAINING, "update", 3, b"other", lambda: b"answer") == b"answer"


def test_same_question_twice_at_once_gets_one_answer(journal: Journal) -> None:
    both = threading.Barrier(2)

    def ask(answer: bytes) -> bytes:
        def compute() -> bytes:
            both.wait(10)  # neither has been saved
            return answer

        return journal.once(TRAINING, "update", 3, b"question", compute)

    with ThreadPoolExecutor(2) as executor:
        one, other = executor.map(ask, [b"one", b"other"])
    assert one == other
    assert journal.once(TRAINING, "update", 3, b"question", never) == one


def test_other_questions_at_once_get_one_answer_and_one_refusal(journal: Journal) -> None:
    both = threading.Barrier(2)

    def ask(question: bytes) -> bytes | None:
        def compute() -> bytes:
            both.wait(10)
            return b"answer to " + question

        try:
            return journal.once(TRAINING, "update", 3, question, compute)
        except Conflict:
            return None

    with ThreadPoolExecutor(2) as executor:
        answers = dict(zip((b"one", b"other"), executor.map(ask, (b"one", b"other")), strict=True))
    (answered,) = (question for question, answer in answers.items() if answer is not None)
    assert answers[answered] == b"answer to " + answered


def test_kept_exchange_is_the_first_that_was_saved(journal: Journal) -> None:
    first = journal.keep(TRAINING, "mask", 0, b"question", b"masks")
    assert journal.keep(TRAINING, "mask", 0, b"other", b"other masks") == first == journal.find(TRAINING, "mask", 0)


def test_all_exchanges_of_a_training_come_in_the_order_in_which_they_were_saved(journal: Journal) -> None:
    exchanges = [("score", 0), ("update", 1), ("update", 0), ("score", 10), ("score", 9)]
    kept = [
        (kind, round_, journal.keep(TRAINING, kind, round_, f"{kind} {round_}".encode(), b"answer"))
        for kind, round_ in exchanges
    ]
    journal.keep(uuid.UUID(int=8), "update", 2, b"of another training", b"answer")
    assert journal.all(TRAINING) == kept
    assert journal.names(TRAINING) == exchanges
    assert journal.all(uuid.UUID(int=9)) == journal.names(uuid.UUID(int=9)) == []


def test_exchanges_of_one_moment_are_in_the_order_of_their_names(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    monkeypatch.setattr("commons.journal.now", lambda: moment)
    for kind, round_ in (("update", 10), ("update", 9), ("score", 3)):
        journal.keep(TRAINING, kind, round_, b"question", b"answer")
    assert journal.names(TRAINING) == [("score", 3), ("update", 9), ("update", 10)]
    assert [entry[:2] for entry in journal.all(TRAINING)] == journal.names(TRAINING)


def test_last_round_is_that_of_the_kind_and_the_training(journal: Journal) -> None:
    assert journal.last(TRAINING, "update") is None
    for round_ in (9, 10, 0):
        journal.keep(TRAINING, "update", round_, b"question", b"answer")
    journal.keep(TRAINING, "score", 11, b"question", b"answer")
    journal.keep(uuid.UUID(int=8), "update", 12, b"question", b"answer")
    assert (journal.last(TRAINING, "update"), journal.last(TRAINING, "score")) == (10, 11)


def test_times_and_size_are_told_without_the_contents(journal: Journal) -> None:
    began = now()
    for round_ in range(4):
        journal.keep(TRAINING, "round", round_, bytes(1000), b"answer")
    journal.keep(TRAINING, "header", 0, bytes(10), b"")
    journal.keep(uuid.UUID(int=8), "round", 2, b"of another training", b"")
    times = journal.times(TRAINING, "round", 1, 2)
    assert list(times) == [1, 2] and began <= times[1] <= times[2] <= now()
    assert journal.times(TRAINING, "round", 4, 9) == {}
    assert journal.size(TRAINING) == (5, 4010)
    assert journal.size(uuid.UUID(int=9)) == (0, 0)
