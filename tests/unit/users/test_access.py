"""Who may do what: a route that is named nowhere is closed, and what is somebody else's does not exist."""

from __future__ import annotations

import uuid

import pytest

from commons.http import application
from commons.users import api
from tests.unit.users.service import PASSWORD, Service, wallet


def paths(service: Service) -> list[tuple[str, str, str]]:
    unknown = str(uuid.uuid4())
    return [
        (rule.endpoint, method, "/".join(unknown if part.startswith("<") else part for part in rule.rule.split("/")))
        for rule in service.app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


OPEN = (
    api.FOR_ANYONE
    | {"health.ping", "models.notice"}
    | {f"documentation.{name}" for name in ("document", "page", "static")}
)


def test_every_other_route_asks_for_a_token(service: Service) -> None:
    service.ada()
    closed = [(method, path) for endpoint, method, path in paths(service) if endpoint not in OPEN]
    assert len(closed) > 15
    for method, path in closed:
        answer = service.client.open(path, method=method, json={} if method in ("POST", "PUT") else None)
        assert (answer.status_code, answer.content_type) == (401, "application/problem+json"), (method, path)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="DeltaML"'
    assert service.changed == 0


def test_open_routes_ask_for_none(service: Service) -> None:
    assert service.client.get("/helpers/ping").status_code == 200
    assert service.client.get("/users/nonce").status_code == 200
    assert service.client.put(f"/models/{uuid.uuid4()}").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWRhOnNldmVuIHdvb2RlbiBob3JzZXM=",
        "{token}",
        "Bearer {token} {token}",
        "Bearer {token}, Bearer {token}",
        "Bearer {token}x",
        "Bearer {token}\u00e4",
        "Bearer x{token}",
        "Token {token}",
        'Bearer "{token}"',
        "Bearer deltaml_" + "A" * 43,
        "Bearer deltaml_' OR '1'='1",
        "Bearer " + "A" * 10_000,
    ],
)
def test_only_a_token_that_counts_opens(service: Service, header: str) -> None:
    token = service.ada().token
    answer = service.client.get("/models", headers={"Authorization": header.format(token=token)})
    assert answer.status_code == 401
    assert token not in answer.text
    assert service.client.get("/models", headers={"Authorization": f"bEARER  {token}"}).status_code == 200


def test_token_counts_in_its_header_only(service: Service) -> None:
    token = service.ada().token
    for answer in (
        service.client.get(f"/models?access_token={token}"),
        service.client.get("/models", headers={"Cookie": f"token={token}"}),
        service.client.get("/models", headers={"X-Authorization": f"Bearer {token}"}),
    ):
        assert answer.status_code == 401


def test_viewer_reads_and_operator_writes_unless_the_route_is_for_users(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    assert bob.get("/models").get_json() == {"by": "bob@example.org"}
    assert bob.post("/predictions").status_code == 201
    answer = bob.post("/models")
    assert answer.status_code == 403
    assert answer.get_json()["detail"] == (
        "this is for operators, and Bob is a viewer: an operator can do it, or change the role"
    )
    assert service.changed == 1
    assert ada.post("/models").status_code == 201


def test_role_counts_as_it_is_now(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    body = {"name": "Bob", "email": "bob@example.org"}
    assert ada.put(f"/users/{bob.user_id}", json=body | {"role": "operator"}).status_code == 200
    assert bob.post("/models").status_code == 201
    assert ada.put(f"/users/{bob.user_id}", json=body | {"role": "viewer"}).status_code == 200
    assert bob.post("/models").status_code == 403


def test_what_is_somebody_elses_is_not_found_by_operators_either(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    model, missing = uuid.uuid4(), uuid.uuid4()
    service.owners[model] = uuid.UUID(bob.user_id)
    assert bob.get(f"/models/{model}").status_code == 200
    there, not_there = ada.get(f"/models/{model}"), ada.get(f"/models/{missing}")
    assert there.status_code == not_there.status_code == 404
    assert there.text.replace(str(model), "ID") == not_there.text.replace(str(missing), "ID")


def test_users_are_strangers_to_each_other_and_not_to_operators(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    ada.post("/users", json={"name": "Eve", "email": "eve@example.org", "password": PASSWORD})
    eve = service.log_in("Eve")
    path, unknown = f"/users/{bob.user_id}", f"/users/{uuid.uuid4()}"
    before = ada.get(path).get_json()
    fields = {"name": "Mallory", "email": "mallory@example.org"}
    text = service.offer(wallet(), bob.user_id)
    tries = [
        ("get", "", None),
        ("put", "", fields),
        ("put", "", fields | {"role": "operator"}),
        ("delete", "", None),
        ("put", "/password", {"new": "another password", "current": PASSWORD}),
        ("get", "/tokens", None),
        ("delete", f"/tokens/{uuid.uuid4()}", None),
        ("post", "/wallet", {"message": text, "signature": "0x" + "00" * 65, "password": PASSWORD}),
        ("delete", "/wallet", None),
        ("post", "/address", {"address": "0x" + "12" * 20}),
    ]
    for method, more, body in tries:
        there, not_there = getattr(eve, method)(path + more, json=body), getattr(eve, method)(unknown + more, json=body)
        assert there.status_code == not_there.status_code == 404, (method, more)
        assert there.text.replace(path[7:], "ID") == not_there.text.replace(unknown[7:], "ID")
    assert ada.get(path).get_json() == before
    assert bob.get("/models").status_code == 200
    assert [user["email"] for user in eve.get("/users").get_json()["users"]] == ["eve@example.org"]
    everybody = ada.get("/users").get_json()
    assert ([user["name"] for user in everybody["users"]], everybody["total"]) == (["Ada", "Bob", "Eve"], 3)


def test_methods_of_a_route_are_told_to_everybody_and_unknown_routes_are_not_found(service: Service) -> None:
    assert service.client.options("/models").status_code == 200
    assert service.client.get("/nowhere").status_code == 404
    assert service.client.delete("/models").status_code == 405
    ada = service.ada()
    assert service.client.head("/models").status_code == 401
    assert service.client.head("/models", headers={"Authorization": f"Bearer {ada.token}"}).status_code == 200


@pytest.mark.parametrize(
    ("anyone", "users"), [({"halth"}, set()), (set(), {"models.nothing"}), ({"models"}, {"models"})]
)
def test_name_of_no_route_is_found_at_the_start(service: Service, anyone: set[str], users: set[str]) -> None:
    with pytest.raises(ValueError, match="unknown or ambiguous routes"):
        service.access.protect(service.app, anyone=anyone, users=users)


def test_endpoint_that_is_named_itself_counts_before_its_blueprint(service: Service) -> None:
    app = application.create(__name__)
    app.register_blueprint(service._models())
    service.access.protect(app, anyone={"models"}, users={"models.order"})
    assert app.test_client().put(f"/models/{uuid.uuid4()}").status_code == 200
    assert app.test_client().post("/models").status_code == 401
