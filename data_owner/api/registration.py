"""The route by which an owner becomes known to the aggregator and the chain."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Literal

from commons.errors import Conflict
from commons.http.routes import Routes, problems
from commons.users.api import UserDocument
from commons.users.storage import Users
from data_owner.config import Config
from data_owner.participation import Participation


class RegisteredUser(UserDocument):
    """A user whose service is registered."""

    registered: Literal[True] = True


def blueprint(users: Users, participation: Participation, config: Config) -> Routes:
    """Make the route."""
    routes = Routes("registration", __name__, "Making the owner known", tag="users")

    @routes.post(
        "/users/<uuid:user_id>/register",
        responses={
            HTTPStatus.OK: RegisteredUser,
            **problems(
                HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE
            ),
        },
    )
    def register(user_id: uuid.UUID) -> RegisteredUser:
        """Register the service with the aggregator and on chain."""
        user = users.get(user_id)
        if user.address is None:
            raise Conflict(f"user {user_id} has no address yet: POST /users/{user_id}/address first")
        participation.register(config.aggregator_url, config.public_url)
        return RegisteredUser.model_validate(user, from_attributes=True)

    return routes
