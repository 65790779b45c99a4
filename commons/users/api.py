"""Routes of users: the same at the buyer and at the owners."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field, StrictStr

from commons.errors import InvalidInput
from commons.http import bodies
from commons.protocol.messages import Address, Body, Name, matching
from commons.users.storage import User, Users


class UserFields(Body):
    """What a user says of itself."""

    name: Name
    email: Annotated[
        StrictStr,
        Field(max_length=254),
        matching(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+", "must be an e-mail address"),
    ]


class AddressField(Body):
    """The Ethereum account that a user acts through."""

    address: Address


def document(user: User) -> dict[str, Any]:
    """Return a user as users see it."""
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "address": user.address,
        "created": user.created.isoformat(),
    }


def blueprint(users: Users, account: str) -> Blueprint:
    """Make the routes.

    Parameters
    ----------
    users : Users
        The users of the service.
    account : str
        Address of the service's Ethereum account.
    """
    routes = Blueprint("users", __name__, url_prefix="/users")

    @routes.post("")
    def create() -> ResponseReturnValue:
        fields = bodies.read(UserFields)
        return jsonify(document(users.add(fields.name, fields.email))), HTTPStatus.CREATED

    @routes.get("")
    def list_all() -> ResponseReturnValue:
        return jsonify({"users": [document(user) for user in users.all()]})

    @routes.get("/<uuid:user_id>")
    def show(user_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(document(users.get(user_id)))

    @routes.put("/<uuid:user_id>")
    def change(user_id: uuid.UUID) -> ResponseReturnValue:
        fields = bodies.read(UserFields)
        return jsonify(document(users.change(user_id, name=fields.name, email=fields.email)))

    @routes.delete("/<uuid:user_id>")
    def delete(user_id: uuid.UUID) -> ResponseReturnValue:
        users.delete(user_id)
        return "", HTTPStatus.NO_CONTENT

    @routes.post("/<uuid:user_id>/address")
    def set_address(user_id: uuid.UUID) -> ResponseReturnValue:
        address = bodies.read(AddressField).address
        if address.lower() != account.lower():
            raise InvalidInput(f"this service acts through its own account, {account}: give that one", "address")
        return jsonify(document(users.change(user_id, address=account)))

    return routes
