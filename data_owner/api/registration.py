"""The route by which an owner becomes known to the aggregator and the chain."""

from __future__ import annotations

import uuid

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from commons.errors import Conflict
from commons.users import api as users_api
from commons.users.storage import Users
from data_owner.config import Config
from data_owner.participation import Participation


def blueprint(users: Users, participation: Participation, config: Config) -> Blueprint:
    """Make the route."""
    routes = Blueprint("registration", __name__)

    @routes.post("/users/<uuid:user_id>/register")
    def register(user_id: uuid.UUID) -> ResponseReturnValue:
        user = users.get(user_id)
        if user.address is None:
            raise Conflict(f"user {user_id} has no address yet: POST /users/{user_id}/address first")
        participation.register(config.aggregator_url, config.public_url)
        return jsonify({**users_api.document(user).model_dump(mode="json"), "registered": True})

    return routes
