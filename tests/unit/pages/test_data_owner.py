"""The data owner's pages show and do what its API does, and say what would be shared before it is."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace, Role, Terms
from commons.chain.training import WHOLE
from data_owner.histograms import Histogram
from data_owner.pages import HEIGHT, _bars
from data_owner.storage import Status, Training
from tests.unit.data_owner.chain import Chain, Market
from tests.unit.data_owner.parties import AGGREGATOR, ARBITER, BUYER, OWNERS
from tests.unit.pages.owner import ETHER, ROWS, SEEN, Owner


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def said(html: str) -> str:
    """Return what a page says, without its elements."""
    return re.sub("[ \n]+", " ", unescape(re.sub("<[^>]*>", " ", html)))


def told(owner: Owner, expected: str) -> str:
    """Reload the start page until it says this: it does not wait for the chain."""
    deadline = time.monotonic() + 20
    while expected not in (shown := said(owner.get("/").text)):
        assert time.monotonic() < deadline, shown
    return shown


def acts(owner: Owner, training: Training, dataset: str) -> list[str]:
    """Return the path of everything that pages change something by."""
    ids = {"training_id": training.id, "dataset_id": dataset.rpartition("/")[2]}
    urls = owner.app.url_map.bind("localhost")
    changing = [
        rule.endpoint
        for rule in owner.app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] in ("pages", "account") and "POST" in (rule.methods or ())
    ]
    assert len(changing) >= 5
    return [urls.build(endpoint, ids, method="POST") for endpoint in changing]


def chosen(owner: Owner, training: Training) -> dict[str, str]:
    """Return what the form that accepts sends."""
    shown = owner.get(f"/training/{training.id}/accept").text
    return dict(re.findall('<input type="hidden" name="([^"]+)" value="([^"]+)"', shown))


def every_page(owner: Owner) -> list[str]:
    dataset = owner.upload().headers["Location"]
    offered = owner.training(standardise=True)
    pages = ["/", "/data", dataset, f"/training/{offered.id}", f"/training/{offered.id}/accept", "/account", "/nowhere"]
    for status in Status:
        dispute = {"disputer": OWNERS[0].address, "reason": "it is wrong", "evidence_hash": "", "outcome": "REFUND"}
        pages.append(f"/training/{owner.training(status, role='TRAINER', dispute=dispute).id}")
    return [*pages, "/login"]


def test_first_visitor_is_told_what_the_first_user_becomes(tmp_path: Path) -> None:
    made = Owner(tmp_path)
    assert made.get("/").headers["Location"] == "/login?next=/"
    assert "the first one operates it, uploads data and accepts trainings" in made.get("/sign-up").text
    assert made.sign_up().status_code == 303
    assert "Data owner" in made.get("/").text
    made.close()


def test_who_may_look_only_is_shown_everything_and_may_do_nothing(owner: Owner) -> None:
    training, dataset = owner.training(), owner.upload().headers["Location"]
    looks = ["/", "/data", dataset, f"/training/{training.id}", f"/training/{training.id}/accept"]
    assert sum(owner.get(path).text.count("<button") for path in looks) > len(looks)  # logging out is one
    owner.become_viewer()
    for path in looks:
        answer = owner.get(path)
        assert answer.status_code == 200 and answer.text.count("<button") == 1
    for path in acts(owner, training, dataset):
        assert owner.post(path).status_code == 403
    assert owner.storage.training(training.id).status == Status.OFFERED
    assert len(owner.storage.outlines()) == 1


def test_whoever_is_not_logged_in_sees_nothing(owner: Owner) -> None:
    training, dataset = owner.training(), owner.upload().headers["Location"]
    owner.post("/logout")
    for path in ("/", "/data", dataset, f"/training/{training.id}", f"/training/{training.id}/events"):
        assert owner.get(path).headers["Location"].startswith("/login")


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": ""}, {"Sec-Fetch-Site": "same-site"}], ids=str
)
def test_forms_of_other_sites_change_nothing(owner: Owner, headers: dict[str, str]) -> None:
    training, dataset = owner.training(), owner.upload().headers["Location"]
    for path in acts(owner, training, dataset):
        assert owner.post(path, **headers).status_code == 403
    assert owner.storage.training(training.id).status == Status.OFFERED
    assert len(owner.storage.outlines()) == 1


def test_start_page_says_what_is_missing_and_what_to_do(owner: Owner) -> None:
    assert "No request has arrived yet" in owner.get("/").text
    owner.training()
    shown = owner.get("/").text
    assert "Waiting for data" in shown and "You have no data yet. Upload a dataset with these columns" in shown
    owner.upload(b"age,y\n1,0\n9,1\n", "short.csv")
    shown = said(owner.get("/").text)
    assert "What “short.csv”, the closest of your datasets, lacks" in shown
    assert "You have no column “bmi”." in shown
    assert "Your column “age” goes from 1 to 9; -5 to 5 is asked for." in shown
    owner.upload()
    shown = said(owner.get("/").text)
    assert "Ready to accept" in shown and "Your dataset “rows.csv” has what is asked for" in shown
    assert "You can accept until 2027-01-15 08:00 UTC" in shown
    assert "0.0875\N{NO-BREAK SPACE}ETH to 3.325\N{NO-BREAK SPACE}ETH" in shown  # of 3 to 5 owners 2 to 4 train


@pytest.mark.parametrize(
    ("status", "values", "seen", "expected"),
    [
        (Status.ACCEPTING, {}, {}, "Your acceptance is being recorded on the chain."),
        (Status.INITIATED, {}, {"owners": 2}, "2 of 5 owners have accepted, and at least 3 are needed"),
        (Status.INITIATED, {}, {"status": "CLOSED"}, "The chain draws who trains and who validates."),
        (Status.IN_PROGRESS, {"role": "TRAINER"}, {"status": "TRAINING"}, "Your service trains by itself."),
        (Status.IN_PROGRESS, {"role": "VALIDATOR"}, {"status": "TRAINING"}, "Your service measures the error"),
        (Status.IN_PROGRESS, {}, {"status": "REPORTED", "deadline": 0}, "the end of the review on 1970-01-01 00:00"),
        (Status.IN_PROGRESS, {}, {"status": "DISPUTED", "deadline": 0}, "The arbiter decides until 1970-01-01 00:00"),
        (Status.FINISHED, {"earned": ETHER}, {}, "You have earned 1\N{NO-BREAK SPACE}ETH"),
        (Status.FINISHED, {}, {}, "You have earned nothing"),
        (Status.FAILED, {"reason": "the order was cancelled"}, {}, "the order was cancelled"),
    ],
)
def test_every_state_is_explained(
    owner: Owner, status: Status, values: dict[str, object], seen: dict[str, object], expected: str
) -> None:
    training = owner.training(status, seen=SEEN.model_copy(update=seen), **values)
    assert expected in said(owner.get("/").text)
    assert expected in said(owner.get(f"/training/{training.id}").text)


def test_requests_of_before_the_chain_was_noted_are_shown_too(owner: Owner) -> None:
    for status in Status:
        training = owner.training(status, seen=None)
        for path in ("/", f"/training/{training.id}", f"/training/{training.id}/accept"):
            assert owner.get(path).status_code == 200


def test_start_page_is_there_without_the_chain(owner: Owner) -> None:
    assert "not known now" in owner.get("/").text
    shown = told(owner, "The chain does not answer now.")
    assert "not known now" in shown


def test_start_page_is_there_whatever_goes_wrong_with_the_chain(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Connection) -> Marketplace:
        raise ZeroDivisionError

    monkeypatch.setattr(Connection, "marketplace", broken)
    told(owner, "The chain does not answer now.")


def test_requests_are_paged_the_newest_first(owner: Owner) -> None:
    ids = [str(owner.training().id) for _ in range(25)]
    first, second = owner.get("/").text, owner.get("/?offset=20").text
    assert [each in first for each in ids] == [False] * 5 + [True] * 20
    assert [each in second for each in ids] == [True] * 5 + [False] * 20
    assert 'rel="next" href="?offset=20"' in first and 'rel="prev" href="?offset=0"' in second
    assert owner.get("/?offset=-3").status_code == owner.get("/?offset=a").status_code == 200


def test_registering_needs_no_call_of_the_api_before_and_says_why_it_fails(owner: Owner) -> None:
    assert "not registered" in owner.get("/").text and "Register this service" in owner.get("/").text
    answer = owner.post("/register")  # there is no chain
    assert answer.status_code == 503 and 'role="alert"' in answer.text and "Register this service" in answer.text
    owner.storage.note_registration("http://127.0.0.1:9", "http://127.0.0.1:5000")
    assert "Register this service" not in owner.get("/").text
    owner.storage.note_registration("http://127.0.0.1:9", "http://old.example")
    assert "Register this service" in owner.get("/").text, "the aggregator knows another URL"


def test_upload_leads_to_columns_with_ranges_types_and_histograms(owner: Owner) -> None:
    answer = owner.upload(b"binary,whole,decimal\n1,-3,0.5\n0,400,0.125\n1,20,2.5\n")
    assert answer.status_code == 303
    shown = owner.get(answer.headers["Location"]).text
    assert "The file was read and deleted" in shown
    columns = re.findall(r"<li>\s*<h3><code>(.*?)</code></h3>(.*?)</li>", shown, re.DOTALL)
    texts = {name: said(body) for name, body in columns}
    assert "zeros and ones" in texts["binary"] and " 0 1 " in texts["binary"]
    assert "whole numbers" in texts["whole"] and " -3 400 " in texts["whole"]
    assert "decimal numbers" in texts["decimal"] and " 0.125 2.5 " in texts["decimal"]
    assert all(body.count('<svg class="histogram"') == 1 for _, body in columns)
    assert "None of it is sent anywhere" in shown
    assert not list((owner.folder / "scratch").iterdir())


def test_bars_are_as_high_as_their_part_of_the_highest() -> None:
    path = _bars(Histogram(width=1, counts=[10_000, 0, 5_000, 1], whole=True))
    assert path == f"M0 {HEIGHT}v-40h.9v40zM2 {HEIGHT}v-20h.9v20zM3 {HEIGHT}v-1h.9v1z"


def test_upload_that_fits_no_request_is_told_which_and_why(owner: Owner) -> None:
    wanted, other = owner.training(features=("age", "height")), owner.training(features=("age",))
    shown = owner.get(owner.upload(b"age,bmi,y\n1,0.25,-3\n0,-0.5,0.125\n").headers["Location"]).text
    first, second = (
        shown.split(f'href="/training/{each.id}"')[1].split("</li>\n    <li>")[0] for each in (other, wanted)
    )
    assert "It does not fit" in said(first) and "It does not fit" in said(second)
    assert "You have no column “height”." in said(second)
    assert "Your column “y” goes from -3 to 0.125; -1 to 1 is asked for." in said(first)
    owner.upload()
    shown = said(owner.get(owner.upload().headers["Location"]).text)
    assert "It fits: all 3 rows match." in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"age,bmi\n1,tall\n", "line 2, column 'bmi': 'tall' is no number"),
        (b"age,bmi\n1,\n", "line 2, column 'bmi': a number is missing"),
        (b"", "the file is empty"),
        (b"\x00\x01\x02", "neither CSV nor Parquet"),
        (b"age\n1\n", "the header has one column only"),
    ],
)
def test_bad_file_is_refused_beside_its_field_and_kept_by_nobody(owner: Owner, content: bytes, reason: str) -> None:
    answer = owner.upload(content)
    assert answer.status_code == 422
    assert 'id="file-error"' in answer.text and reason in unescape(answer.text)
    assert owner.storage.outlines() == [] and not list((owner.folder / "scratch").iterdir())


def test_rows_of_an_upload_that_a_crash_cut_short_are_gone_after_the_start(tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "tmp1" / "upload"
    left.parent.mkdir(parents=True)
    left.write_bytes(ROWS)
    Owner(tmp_path).close()
    assert not list((tmp_path / "scratch").iterdir())


def test_file_that_is_too_large_is_refused_with_what_to_do(tmp_path: Path) -> None:
    made = Owner(tmp_path, max_upload_mb=1)
    made.sign_up()
    assert "At most 1 MB" in made.get("/data").text
    answer = made.upload(b"a,b\n" + b"1,2\n" * 2**19)
    assert answer.status_code == 413 and "Split the file" in answer.text
    made.close()


def test_dataset_is_removed_unless_a_training_needs_it(owner: Owner) -> None:
    used, spare = (owner.upload().headers["Location"] for _ in range(2))
    owner.training(Status.FINISHED, dataset_id=uuid.UUID(used.rsplit("/", 1)[1]))
    refused = owner.post(f"{used}/remove")
    assert refused.status_code == 409 and "is the one that a training was accepted with" in refused.text
    assert owner.post(f"{spare}/remove").headers["Location"] == "/data"
    assert "The dataset was removed." in owner.get("/data").text
    assert owner.get(spare).status_code == 404 and owner.get(used).status_code == 200


def test_no_page_tells_a_row_but_by_its_columns_ranges_and_histograms(owner: Owner) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (40, 3)).round(7)
    table = "age,bmi,y\n" + "".join(",".join(map(repr, row)) + "\n" for row in values.tolist())
    dataset = owner.upload(table.encode()).headers["Location"]
    training = owner.training()
    extremes = {*values.min(axis=0).tolist(), *values.max(axis=0).tolist()}
    for path in ("/", "/data", dataset, f"/training/{training.id}", f"/training/{training.id}/accept"):
        shown = owner.get(path).text
        for value in values.ravel().tolist():
            if value not in extremes:
                assert not any(f"{abs(value):.{digits}g}" in shown for digits in (4, 5, 6, 7))
    shown = owner.get(dataset).text
    assert all(f"{value:.5g}" in shown for value in extremes)


def test_datasets_without_histograms_say_so(owner: Owner) -> None:
    dataset = owner.upload().headers["Location"]
    with owner.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE datasets SET histograms = NULL")
    shown = owner.get(dataset).text
    assert "uploaded before histograms were made" in shown and "<svg" not in shown


def test_wide_datasets_are_shown_in_parts(owner: Owner) -> None:
    names = [f"c{number:03}" for number in range(120)]
    dataset = owner.upload((",".join(names) + "\n" + ",".join(["1"] * 120) + "\n").encode()).headers["Location"]
    shown = [owner.get(f"{dataset}?offset={offset}").text for offset in (0, 50, 100)]
    assert [re.findall(r"<code>(c\d{3})</code>", each) for each in shown] == [names[:50], names[50:100], names[100:]]


def test_what_would_be_shared_depends_on_what_is_ordered(owner: Owner) -> None:
    owner.upload()
    plain, standardised = owner.training(), owner.training(standardise=True)
    many = owner.training(features=[f"c{number}" for number in range(9)])
    shown = {each.id: said(owner.get(f"/training/{each.id}/accept").text) for each in (plain, standardised, many)}
    moments = "the sum and the sum of squares of every feature, encrypted"
    assert moments in shown[standardised.id] and moments not in shown[plain.id]
    assert "With so few features" in shown[plain.id] and "With so few features" not in shown[many.id]
    for text in shown.values():
        assert "What never leaves this service Your rows." in text
        assert all(account.address in text for account in (BUYER, AGGREGATOR, ARBITER))
        assert "There may be one validator only" in text  # of three owners one validates
        assert "To decline, do nothing" in text or "You cannot take part yet" in text
    assert "All 3 rows of “rows.csv” match." in shown[plain.id]
    assert "age feature -5 to 5 0 to 1" in shown[plain.id]  # asked for, and had


def test_what_others_could_work_out_names_everybody_who_could(owner: Owner) -> None:
    owner.upload()
    shown = said(owner.get(f"/training/{owner.training(standardise=True).id}/accept").text)
    limits = shown.partition("What others could work out")[2].partition("What it earns")[0]
    for who in (
        "An aggregator that breaks the protocol",
        "colludes with the aggregator, or with the arbiter of a dispute",
        "A buyer and all other trainers",
        "An aggregator that colludes with one",
    ):
        assert who in limits, who
    assert "the arbiter if there is a dispute" in shown


@pytest.mark.parametrize(("minimum", "alone"), [(3, True), (10, False)])
def test_the_chain_says_whether_one_may_validate_alone(owner: Owner, minimum: int, alone: bool) -> None:
    owner.upload()
    training = owner.training(seen=SEEN.model_copy(update={"minimum": minimum, "wanted": 10}))
    shown = owner.get(f"/training/{training.id}/accept").text
    assert ("There may be one validator only" in shown) == alone


def test_nobody_accepts_with_another_dataset_than_was_shown(owner: Owner) -> None:
    owner.upload()
    training = owner.training()
    shown = chosen(owner, training)
    owner.upload(name="newer.csv")
    answer = owner.post(f"/training/{training.id}/accept", shown)
    assert answer.status_code == 409 and "it has changed since you saw it" in answer.text
    assert "All 3 rows of “newer.csv” match." in said(answer.text)
    assert owner.post(f"/training/{training.id}/accept").status_code == 422
    assert owner.storage.training(training.id).status == Status.OFFERED


def test_what_cannot_be_accepted_has_no_button_to(owner: Owner) -> None:
    waiting = owner.training()
    assert ">Accept</button>" not in owner.get(f"/training/{waiting.id}/accept").text
    owner.upload()
    assert ">Accept</button>" in owner.get(f"/training/{waiting.id}/accept").text
    over = owner.training(Status.FAILED)
    assert ">Accept</button>" not in owner.get(f"/training/{over.id}/accept").text
    assert owner.post(f"/training/{over.id}/accept").status_code == 409


def test_acceptance_that_fails_is_explained_and_leaves_the_request_on_offer(owner: Owner) -> None:
    training = owner.training()
    owner.upload()
    answer = owner.post(f"/training/{training.id}/accept", chosen(owner, training))  # there is no chain
    assert answer.status_code == 503 and 'role="alert"' in answer.text and ">Accept</button>" in answer.text
    assert owner.storage.training(training.id).status == Status.OFFERED


@pytest.fixture
def market() -> Market:
    terms = Terms(
        wanted_owners=5,
        minimum_owners=3,
        join_deadline=1000,
        training_deadline=2000,
        review_period=60,
        fixed_share=WHOLE // 10,
        arbiter=ARBITER.address,
        order_hash=bytes(32),
    )
    roles = {OWNERS[0].address: Role.DATA_OWNER}
    return Market(terms, BUYER.address, AGGREGATOR.address, roles=roles, funds=7 * ETHER // 2, credited=ETHER)


@pytest.fixture
def on_chain(tmp_path: Path, market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[Owner]:
    """An owner's service that reaches the contract."""
    monkeypatch.setattr("data_owner.app.Connection", lambda config: Chain(market, OWNERS[0]))
    made = Owner(tmp_path)
    assert made.sign_up().status_code == 303
    yield made
    made.close()


def test_accepting_by_click_is_accepting_by_the_api(on_chain: Owner, market: Market) -> None:
    training = on_chain.training()
    on_chain.upload()
    answer = on_chain.post(f"/training/{training.id}/accept", chosen(on_chain, training))
    assert answer.headers["Location"] == f"/training/{training.id}"
    assert market.owners == [OWNERS[0].address]
    shown = said(on_chain.get(f"/training/{training.id}").text)
    assert "You have accepted this training." in shown
    assert "1 of 5 owners have accepted" in shown
    bearer = {"Authorization": f"Bearer {on_chain.token()}"}
    assert on_chain.get(f"/models/{training.id}", **bearer).get_json()["status"] == "INITIATED"
    assert ">Accept</button>" not in on_chain.get(f"/training/{training.id}/accept").text


def test_balance_and_credit_are_those_of_the_account(on_chain: Owner) -> None:
    shown = told(on_chain, "3.5\N{NO-BREAK SPACE}ETH")
    assert "Balance 3.5\N{NO-BREAK SPACE}ETH" in shown and "Credit at the contract 1\N{NO-BREAK SPACE}ETH" in shown


def test_who_has_another_role_on_chain_is_not_registered(on_chain: Owner, market: Market) -> None:
    on_chain.storage.note_registration("http://127.0.0.1:9", "http://127.0.0.1:5000")
    assert "not registered" not in told(on_chain, "3.5\N{NO-BREAK SPACE}ETH")
    market.roles[OWNERS[0].address] = Role.NONE
    assert "Register this service" in told(on_chain, "not registered")


def test_own_share_and_pay_are_shown_once_a_result_is_reported(owner: Owner) -> None:
    reported = {"status": "REPORTED", "reported": True, "answered": True, "owners": 5, "trainers": 4}
    result = {"share": 3 * WHOLE // 8, "improvement": WHOLE // 2}
    seen = SEEN.model_copy(update={**reported, **result})
    trainer = owner.training(Status.IN_PROGRESS, role="TRAINER", seen=seen)
    validator = owner.training(Status.IN_PROGRESS, role="VALIDATOR", seen=seen)
    shown = said(owner.get(f"/training/{trainer.id}").text)
    assert "Your share of the contributions 37.5\N{NO-BREAK SPACE}%" in shown
    # 70 % of 5 ETH: a fourth of their tenth, and 3/8 of half of the rest.
    assert "Earns as a trainer 0.678125\N{NO-BREAK SPACE}ETH" in shown
    shown = said(owner.get(f"/training/{validator.id}").text)
    assert "share of the contributions" not in shown and "Earns as a validator 1\N{NO-BREAK SPACE}ETH" in shown
    silent = owner.training(Status.IN_PROGRESS, role="VALIDATOR", seen=seen.model_copy(update={"answered": False}))
    assert "Earns as a validator 0\N{NO-BREAK SPACE}ETH" in said(owner.get(f"/training/{silent.id}").text)


def test_events_bring_the_curve_and_end_with_the_training(owner: Owner) -> None:
    training = owner.training(Status.FINISHED, role="TRAINER", earned=ETHER)
    for iteration, mse in ((0, 4 * WHOLE), (5, WHOLE)):
        owner.storage.add_metric(training.id, iteration, mse)
    events = owner.get(f"/training/{training.id}/events").text
    assert "You have earned 1\N{NO-BREAK SPACE}ETH" in events
    assert 'event: measured\ndata: {"start": 0, "points": [[0, 4.0], [5, 1.0]]}' in events
    assert events.endswith("event: over\ndata: \n\n")
    assert 'data-points="[[0, 4.0], [5, 1.0]]"' in unescape(owner.get(f"/training/{training.id}").text)


def test_pages_are_in_spanish_for_who_reads_it(owner: Owner) -> None:
    owner.upload()
    training = owner.training()
    spanish = {"Accept-Language": "es-AR"}
    assert "Pedidos de entrenamiento" in owner.get("/", **spanish).text
    shown = said(owner.get(f"/training/{training.id}/accept", **spanish).text)
    assert "Qué no sale nunca de este servicio" in shown and "de 0,0875\N{NO-BREAK SPACE}ETH" in shown
    refused = owner.post("/data", {}, **spanish)
    assert refused.status_code == 415


def test_pages_bring_nothing_that_the_policy_would_block_and_are_well_formed(owner: Owner) -> None:
    for path in every_page(owner):
        answer = owner.get(path)
        assert answer.mimetype == "text/html", path
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        elements = Elements(answer.text).found
        tags = [tag for tag, _ in elements]
        assert [tags.count(tag) for tag in ("header", "main", "footer", "h1")][1:] == [1, 1, 1], path
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        labelled = {attributes["for"] for tag, attributes in elements if tag == "label"}
        for tag, attributes in elements:
            assert tag != "style" and "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
            if tag == "input" and attributes.get("type") != "hidden":
                assert attributes["id"] in labelled
            for named in (attributes.get("aria-labelledby") or "").split():
                assert named in ids, path


def test_names_of_files_and_columns_are_texts_and_no_elements(owner: Owner) -> None:
    dataset = owner.upload(b"<b>age</b>,y\n1,2\n", "<i>.csv").headers["Location"]
    training = owner.training(features=("<u>x</u>",))
    for path in ("/", "/data", dataset, f"/training/{training.id}", f"/training/{training.id}/accept"):
        shown = owner.get(path).text
        assert "<b>" not in shown and "<i>" not in shown and "<u>" not in shown
    assert "&lt;i&gt;.csv" in owner.get("/data").text
