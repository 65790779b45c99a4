"""A cookie is a token that counts on pages only, for what pages of this service send."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from commons.http import application
from commons.pages import streams
from commons.users import api as users_api
from commons.users.sessions import Sessions
from model_buyer.storage import Status
from tests.unit.pages import aggregator as aggregators
from tests.unit.pages import buyer as buyers
from tests.unit.pages import owner as owners
from tests.unit.pages.aggregator import Aggregator
from tests.unit.pages.buyer import COOKIE, ORIGIN, Buyer
from tests.unit.pages.owner import Owner
from tests.unit.pages.visitor import PASSWORD


def test_first_user_signs_up_and_is_logged_in(newcomer: Buyer) -> None:
    assert newcomer.get("/login").headers["Location"] == "/sign-up"
    answer = newcomer.sign_up()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Welcome" in newcomer.get("/").text
    assert "Welcome" not in newcomer.get("/").text


def test_a_cookie_that_counts_no_more_keeps_nobody_from_signing_up(newcomer: Buyer) -> None:
    newcomer.browser.set_cookie(COOKIE, "deltaml_of-a-service-that-was-here-before", domain="localhost")
    assert newcomer.sign_up().headers["Location"] == "/"


def test_nobody_else_signs_up_where_registration_is_for_the_first(buyer: Buyer) -> None:
    buyer.post("/logout")
    assert buyer.get("/sign-up").status_code == 403
    assert buyer.sign_up().status_code == 403


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(newcomer: Buyer) -> None:
    [cookie] = [line for line in newcomer.sign_up().headers.getlist("Set-Cookie") if line.startswith(f"{COOKIE}=")]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert Sessions("https://buyer.example").cookie == "__Host-deltaml_buyer.example_443"


def test_services_on_one_host_have_cookies_of_their_own() -> None:
    urls = [f"http://{place}" for place in ("owner-1:5000", "owner-2:5000", "owner-2:5001", "[::1]:5000", "owner-2")]
    assert len({Sessions(url).cookie for url in urls}) == len(urls)
    assert Sessions("http://[::1]:5000").cookie == "deltaml___1_5000"


def test_cookie_is_secure_where_the_service_is_called_by_https(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = Buyer(tmp_path_factory.mktemp("https"), public_url="https://buyer.example")
    assert made.sign_up().status_code == 403  # from a page that came by http
    sent = {"name": "Ada", "email": "ada@example.org", "password": PASSWORD}
    cookies = made.post("/sign-up", sent, Origin="https://buyer.example").headers.getlist("Set-Cookie")
    assert all("Secure" in cookie for cookie in cookies)
    assert any(cookie.startswith("__Host-deltaml_buyer.example_443=") for cookie in cookies)
    made.close()


def test_logging_out_revokes_the_token(buyer: Buyer) -> None:
    secret = buyer.cookie()
    assert secret is not None
    assert buyer.post("/logout").headers["Location"] == "/login"
    assert buyer.cookie() is None
    buyer.browser.set_cookie(COOKIE, secret, domain="localhost")
    assert buyer.get("/").headers["Location"] == "/login?next=/"


def test_logging_out_ends_the_streams_that_are_open(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSE_S", 0.0)
    monkeypatch.setattr(streams, "PULSE_S", 0.01)
    model = buyer.model(Status.IN_PROGRESS)
    events = buyer.browser.get(f"/training/{model.id}/events", base_url=ORIGIN).iter_encoded()
    assert b"data:" in next(events) and next(events) == b":\n\n"
    buyer.post("/logout")
    assert len(list(islice(events, 5))) < 5


def test_login_leads_back_to_the_page_that_was_asked_for(buyer: Buyer) -> None:
    buyer.post("/logout")
    assert buyer.get("/?offset=20").headers["Location"] == "/login?next=/?offset%3D20"
    sent = {"email": "ada@example.org", "password": PASSWORD, "next": "/?offset=20"}
    assert buyer.post("/login", sent).headers["Location"] == "/?offset=20"


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"])
def test_login_leads_nowhere_else(buyer: Buyer, target: str) -> None:
    sent = {"email": "ada@example.org", "password": PASSWORD, "next": target}
    assert buyer.post("/login", sent).headers["Location"] == "/"


def test_wrong_password_is_said_and_begins_no_session(buyer: Buyer) -> None:
    buyer.post("/logout")
    answer = buyer.post("/login", {"email": "ada@example.org", "password": "wrong"})
    assert answer.status_code == 401 and "The e-mail address or the password is wrong" in answer.text
    assert "wrong</" not in answer.text.partition("<form")[2] and buyer.cookie() is None


def test_tries_are_limited_as_in_the_api(buyer: Buyer) -> None:
    statuses = [buyer.post("/login", {"email": "ada@example.org", "password": "wrong"}).status_code for _ in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429


PAGES = {"site", "pages", "account"}
BETWEEN_SERVICES = {"trainings"} | {f"aggregator.{name}" for name in ("describe", "register")}
BETWEEN_SERVICES |= {f"models.{name}" for name in ("take_order", "accepted", "transcript")}
OPEN = application.FOR_ANYONE | users_api.FOR_ANYONE | BETWEEN_SERVICES

Service = Buyer | Owner | Aggregator
KINDS: dict[str, tuple[Callable[[Path], Service], str, set[str]]] = {
    "buyer": (Buyer, buyers.ORIGIN, {"/order", "/account/withdraw"}),
    "owner": (Owner, owners.ORIGIN, {"/register", "/data", "/account/withdraw"}),
    "aggregator": (Aggregator, aggregators.ORIGIN, set()),
}
"""How each service is made, where its pages are, and some that change something."""


@dataclass(frozen=True)
class Visited:
    """A service whose first user is logged in, and how a browser calls it."""

    service: Service
    origin: str
    changing: set[str]

    def routes(self, *, of_pages: bool) -> list[tuple[str, str]]:
        """Return every method and path of the pages, or of the API for users."""
        return [
            (method, re.sub("<[^>]+>", str(uuid.uuid4()), rule.rule))
            for rule in self.service.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if (rule.endpoint.partition(".")[0] in PAGES) == of_pages
            and not {rule.endpoint, rule.endpoint.partition(".")[0]} & OPEN
        ]

    def call(self, method: str, path: str, origin: str | None = None, accept: str = "text/html") -> TestResponse:
        """Send what a browser sends, from a page of the service or of another one."""
        headers = {"Origin": origin or self.origin, "Accept": accept}
        json = None if accept == "text/html" else {}
        return self.service.browser.open(path, base_url=self.origin, method=method, headers=headers, json=json)


@pytest.fixture(params=KINDS)
def visited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visited]:
    make, origin, changing = KINDS[request.param]
    service = make(tmp_path)
    assert service.sign_up().status_code == 303
    yield Visited(service, origin, changing)
    service.close()


def test_cookie_counts_nowhere_in_the_api(visited: Visited) -> None:
    called = visited.routes(of_pages=False)
    assert {("GET", "/users"), ("GET", "/contract")} <= set(called)
    for method, path in called:
        assert visited.call(method, path, accept="application/json").status_code == 401, (method, path)


def test_no_form_of_another_site_counts_on_any_page(visited: Visited) -> None:
    changing = {path for method, path in visited.routes(of_pages=True) if method != "GET"}
    assert {"/login", "/logout", "/sign-up"} | visited.changing <= changing
    for path in changing:
        answer = visited.call("POST", path, origin="http://localhost:1")
        assert answer.status_code == 403 and "http://localhost:1" in answer.text, path


def test_no_page_but_those_to_log_in_is_for_anyone(visited: Visited) -> None:
    assert visited.call("POST", "/logout").status_code == 303
    for method, path in visited.routes(of_pages=True):
        if path in ("/login", "/sign-up") or path.startswith("/static/"):
            continue
        assert visited.call(method, path).headers["Location"].startswith("/login"), (method, path)


def test_token_of_the_api_counts_on_no_page(buyer: Buyer) -> None:
    bearer = {"Authorization": f"Bearer {buyer.token()}"}
    buyer.post("/logout")
    assert buyer.get("/models", Accept="application/json", **bearer).status_code == 200
    assert buyer.get("/", **bearer).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:5000"},
        {"Origin": "http://localhost"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/logout", "/order", "/login"])
def test_forms_of_other_sites_change_nothing(buyer: Buyer, headers: dict[str, str], path: str) -> None:
    assert buyer.post(path, {}, **headers).status_code == 403
    assert buyer.get("/").status_code == 200


def test_forms_sent_to_any_name_of_this_service_count(buyer: Buyer) -> None:
    assert buyer.post("/order", {}, **{"Sec-Fetch-Site": "same-origin"}).status_code == 422
    assert buyer.post("/order", {}, Origin="http://127.0.0.1:9090").status_code == 422  # its public URL
    assert ORIGIN != "http://127.0.0.1:9090"


NEWCOMER = {"name": "Eve", "email": "eve@example.org", "password": PASSWORD}


@pytest.mark.parametrize("name", ["evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example:9090"])
def test_a_name_that_was_given_this_address_makes_nobody_the_first_user(newcomer: Buyer, name: str) -> None:
    called = {"base_url": f"http://{name}", "headers": {"Origin": f"http://{name}"}}
    assert newcomer.browser.post("/sign-up", data=NEWCOMER, **called).status_code == 403
    assert newcomer.browser.post("/users", json=NEWCOMER, **called).status_code == 403
    assert newcomer.sign_up().status_code == 303  # as the first


def test_a_page_without_origin_makes_nobody_the_first_user_by_an_odd_name(newcomer: Buyer) -> None:
    answer = newcomer.browser.post(
        "/sign-up", base_url="http://my_buyer:9090", data=NEWCOMER, headers={"Origin": "null"}
    )
    assert answer.status_code == 403
    assert newcomer.sign_up().status_code == 303


@pytest.mark.parametrize("name", ["localhost:9090", "buyer.localhost:80", "127.0.0.1:9090", "[::1]:9090", "[::1]"])
def test_the_first_user_signs_up_by_any_name_that_stays_this_machines(newcomer: Buyer, name: str) -> None:
    origin = f"http://{name}".removesuffix(":80")
    answer = newcomer.browser.post("/sign-up", base_url=f"http://{name}", data=NEWCOMER, headers={"Origin": origin})
    assert answer.status_code == 303


def test_programs_make_the_first_user_by_whatever_name(newcomer: Buyer) -> None:
    assert newcomer.browser.post("/users", base_url="http://buyer.lan", json=NEWCOMER).status_code == 201


def test_viewers_order_nothing_but_predict(buyer: Buyer) -> None:
    operator = {"Authorization": f"Bearer {buyer.token()}"}
    sent = {"name": "Bob", "email": "bob@example.org", "password": PASSWORD}
    assert buyer.browser.post("/users", json=sent, headers=operator).status_code == 201
    buyer.post("/logout")
    assert buyer.post("/login", {"email": "bob@example.org", "password": PASSWORD}).status_code == 303
    assert 'href="/order"' not in buyer.get("/").text
    model = buyer.model(Status.FINISHED)
    for path in ("/order", f"/training/{model.id}/end", "/account/withdraw"):
        assert buyer.post(path).status_code == 403
    assert f"/training/{model.id}/end" not in buyer.get(f"/training/{model.id}").text
    assert buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "2"}).status_code == 303


def test_other_peoples_trainings_are_not_there(buyer: Buyer) -> None:
    model = buyer.model(Status.FINISHED)
    row = {"rows.0.0": "1", "rows.0.1": "2"}
    prediction = buyer.post(f"/training/{model.id}/predict", row).headers["Location"]
    bearer = {"Authorization": f"Bearer {buyer.token()}"}
    sent = {"name": "Bob", "email": "bob@example.org", "password": PASSWORD, "role": "operator"}
    assert buyer.browser.post("/users", json=sent, headers=bearer).status_code == 201
    buyer.post("/logout")
    buyer.post("/login", {"email": "bob@example.org", "password": PASSWORD})
    assert str(model.id) not in buyer.get("/").text
    for path in ("", "/events", "/record", "/end", "/download"):
        assert buyer.get(f"/training/{model.id}{path}").status_code == 404
    assert buyer.get(prediction).status_code == 404
    assert prediction not in buyer.get("/prediction").text
    assert buyer.post(f"/training/{model.id}/end").status_code == 404
    assert buyer.post(f"/training/{model.id}/predict", {"rows.0.0": "1", "rows.0.1": "2"}).status_code == 404
    table = {"file": (io.BytesIO(b"age,bmi\n0,0\n"), "rows.csv")}
    assert buyer.post(f"/training/{model.id}/predict-file", table).status_code == 404
    assert not list((buyer.folder / "files").iterdir())
