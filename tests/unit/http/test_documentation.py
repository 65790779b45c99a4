"""What a service says of itself: a document made of its routes, and a page that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from flask.testing import FlaskClient

from commons.http import documentation
from commons.http.documentation import describe
from commons.http.routes import Routes
from commons.protocol.messages import Body
from tests.unit.users.service import Service

HOST = "https://service.example"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return service.app.test_client()


class Links(HTMLParser):
    """Collects what a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_page_loads_nothing_from_elsewhere_and_finds_all_that_it_loads(client: FlaskClient) -> None:
    page = client.get("/doc/")
    links = Links()
    links.feed(page.text)
    assert len(links.found) == 4
    for link in links.found:
        assert not urlsplit(link).netloc, link
        loaded = client.get(urljoin(f"{HOST}/doc/", link), base_url=HOST)
        assert loaded.status_code == 200, link
        loaded.close()
    assert not re.findall(r"(?:https?:)?//\w", page.text)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_page_runs_its_own_scripts_alone_and_is_in_no_frame(client: FlaskClient) -> None:
    page = client.get("/doc/")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    [script] = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")


def test_page_shows_this_document_and_has_it_validated_by_nobody(client: FlaskClient) -> None:
    page = client.get("/doc/").text
    [address] = re.findall(r'new URL\("(.*?)"', page)
    assert urljoin(f"{HOST}/doc/", address) == f"{HOST}/openapi.json"
    [settings] = re.findall(r"swagger_config = JSON.parse\(`(.*?)`\)", page)
    assert json.loads(settings) == {"validatorUrl": None}


def test_page_is_found_without_the_slash(client: FlaskClient) -> None:
    assert client.get("/doc", follow_redirects=True).status_code == 200


def test_document_has_every_route_and_says_who_may_call_it(service: Service, client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"] == "3.1.0"
    documented = {
        operation["operationId"]: operation for item in document["paths"].values() for operation in item.values()
    }
    routes = {name for name in service.app.view_functions if name.partition(".")[0] not in ("documentation", "models")}
    assert set(documented) == routes
    by_anyone = {name for name, operation in documented.items() if {} in operation["security"]}
    assert by_anyone == {"users.create", "users.log_in", "users.nonce", "health.ping"}
    assert {name for name, operation in documented.items() if "401" not in operation["responses"]} == {
        "users.nonce",
        "health.ping",
    }


def test_every_reference_in_the_document_leads_somewhere(client: FlaskClient) -> None:
    text = client.get("/openapi.json").text
    document = json.loads(text)
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert {"Problem", "Refusal", "UserDocument", "NewUser"} <= names <= set(document["components"]["schemas"])


def test_errors_are_documented_as_problems(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    change = paths["/users/{user_id}"]["put"]
    assert change["parameters"] == [
        {"name": "user_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    ]
    refused = {status: answer for status, answer in change["responses"].items() if int(status) >= 300}
    assert set(refused) == {"400", "401", "403", "404", "409", "413", "415", "422"}
    for answer in refused.values():
        assert answer["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_two_shapes_of_one_name_are_found(service: Service) -> None:
    def routes(name: str) -> Routes:
        class Thing(Body):
            kind: str = name

        made = Routes(name, __name__, "Things", url_prefix=f"/{name}")
        made.get("", responses={200: Thing})(lambda: Thing())
        return made

    service.app._got_first_request = False
    for name in ("these", "those"):
        service.app.register_blueprint(routes(name))
    with pytest.raises(TypeError, match="two models are called Thing"):
        describe(service.app)


def test_document_has_the_version_of_the_package() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["version"] == documentation.VERSION
