"""The route by which an owner becomes known to the aggregator and the chain."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal

from commons.chain.training import Role
from commons.errors import Conflict
from commons.http.contract import Contract
from commons.http.routes import Routes, problems
from commons.users.api import UserDocument
from commons.users.storage import User, Users
from data_owner.config import Config
from data_owner.participation import Participation
from data_owner.storage import Storage


class RegisteredUser(UserDocument):
    """A user whose service is registered."""

    registered: Literal[True] = True


@dataclass(frozen=True)
class Known:
    """Who knows this owner: the chain, by its role there, and the aggregator, as far as it told.

    ``role`` is None while it is not known; ``last`` is when the aggregator took note of it at its URL of now.
    """

    aggregator_url: str
    role: str | None
    last: datetime | None

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do."""
        return self.last is not None and self.role in (None, Role.DATA_OWNER.name)


class Registering:
    """Making the owner known, by the API as by pages.

    Parameters
    ----------
    users : Users
    storage : Storage
        The owner's tables.
    participation : Participation
    config : Config
        Says where the aggregator is.
    account : str
        The service's.
    """

    def __init__(
        self, users: Users, storage: Storage, participation: Participation, config: Config, account: str
    ) -> None:
        self._users = users
        self._storage = storage
        self._participation = participation
        self._config = config
        self._account = account

    def state(self, contract: Contract | None) -> Known:
        """Return who knows this owner; `contract` is what the chain says of its account, if it said so."""
        found = self._storage.registration(self._config.aggregator_url)
        current = found is not None and found.url == self._config.public_url
        return Known(
            aggregator_url=self._config.aggregator_url,
            role=None if contract is None else contract.role,
            last=found.created if found is not None and current else None,
        )

    def register_service(self, user_id: uuid.UUID) -> User:
        """Have a user act through the service's account, and register; raises as :meth:`register`."""
        if self._users.get(user_id).address is None:
            self._users.change(user_id, address=self._account)
        return self.register(user_id)

    def register(self, user_id: uuid.UUID) -> User:
        """Register the service with the aggregator and on chain, and return the user who wanted it.

        Raises
        ------
        NotFound, Conflict
            There is no such user, or it has no address yet; or as
            :meth:`data_owner.participation.Participation.register`.
        """
        user = self._users.get(user_id)
        if user.address is None:
            raise Conflict(f"user {user_id} has no address yet: POST /users/{user_id}/address first")
        self._participation.register(self._config.aggregator_url, self._config.public_url)
        return user


def blueprint(registering: Registering) -> Routes:
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
        return RegisteredUser.model_validate(registering.register(user_id), from_attributes=True)

    return routes
