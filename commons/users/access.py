"""Who may do what over HTTP."""

from __future__ import annotations

import re
import uuid
from collections.abc import Set
from enum import Enum, auto

from flask import Flask, g, request

from commons.errors import NotAuthorised, NotFound, NotLoggedIn
from commons.users.sessions import Sessions
from commons.users.storage import Role, Token, User
from commons.users.tokens import Tokens

_BEARER = re.compile("[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{1,256})")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Audience(Enum):
    """For whom a route is."""

    ANYONE = auto()
    USERS = auto()
    OPERATORS = auto()


class Access:
    """Says who sends the current request, and keeps those out who may not.

    A token comes in the header ``Authorization``, or on pages in a cookie: the one never counts for the other.

    Parameters
    ----------
    tokens : Tokens
        Of the service.
    sessions : Sessions
        Its cookie.
    """

    def __init__(self, tokens: Tokens, sessions: Sessions) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._pages: Set[str] = frozenset()

    def user(self) -> User:
        """Return who sends the current request; NotLoggedIn if it has no token that counts."""
        return self._found()[0]

    def still(self) -> User:
        """Return who sends the current request, looked up anew, as long answers do; raises as :meth:`user`."""
        g.pop("deltaml_user", None)
        return self.user()

    def token(self) -> Token:
        """Return the token of the current request; raises as :meth:`user`."""
        return self._found()[1]

    def user_if_any(self) -> User | None:
        """Return who sends the current request, or None if nobody says.

        Raises
        ------
        NotLoggedIn
            The header ``Authorization`` has no token that counts. A cookie without one is nobody's: browsers send what
            they have, of a service that was at this address before as well.
        """
        if self.on_page():
            try:
                return self.user()
            except NotLoggedIn:
                return None
        return self.user() if "Authorization" in request.headers else None

    def on_page(self) -> bool:
        """Return whether the current request is for a page."""
        return request.blueprint in self._pages

    def operator(self) -> User:
        """Return who sends the current request, an operator; NotAuthorised if it is somebody else."""
        user = self.user()
        if user.role != Role.OPERATOR:
            raise NotAuthorised(
                f"this is for operators, and {user.name} is a {user.role}: an operator can do it, or change the role"
            )
        return user

    def self_or_operator(self, user_id: uuid.UUID) -> User:
        """Return who sends the current request: this user, or an operator.

        Raises
        ------
        NotFound
            It is somebody else, to whom others are as if they did not exist.
        """
        user = self.user()
        if user.id != user_id and user.role != Role.OPERATOR:
            raise NotFound(f"there is no user {user_id}")
        return user

    def require_own(self, owner_id: uuid.UUID, what: str) -> User:
        """Return who sends the current request: the owner of what is asked for.

        Not even operators may see what others own.

        Parameters
        ----------
        owner_id : UUID
            Whose it is.
        what : str
            What it is, in words: ``model 7f…``.

        Raises
        ------
        NotFound
            It is somebody else's. That there is something of this id is the owner's to know as well: were the answer
            403, whoever has or guesses ids could tell those that exist.
        """
        user = self.user()
        if user.id != owner_id:
            raise NotFound(f"there is no {what}")
        return user

    def protect(self, app: Flask, *, anyone: Set[str], users: Set[str], pages: Set[str] = frozenset()) -> None:
        """Close every route of an application, to whoever is not meant to call it.

        A route that is named nowhere is read by users and written to (any method but GET) by operators: one that is
        forgotten is closed too far, not too little. Routes that are to be called by services are for anyone here,
        and verify the service's signature themselves.

        Parameters
        ----------
        app : Flask
            With all its blueprints.
        anyone, users : set of str
            Endpoints, or blueprints for all their endpoints that are not named themselves, for everybody and for
            every user whatever the method.
        pages : set of str
            Blueprints of pages: the token is in the cookie there, and what changes something comes from a page.

        Raises
        ------
        ValueError
            A name is that of no endpoint and no blueprint, or is in both sets.
        """
        known = set(app.view_functions) | set(app.blueprints)
        if wrong := (anyone | users) - known | (anyone & users) | pages - set(app.blueprints):
            raise ValueError(f"unknown or ambiguous routes: {', '.join(sorted(wrong))}")
        self._pages = pages

        def audience() -> Audience:
            for name in (request.endpoint, request.blueprint):
                if name in anyone:
                    return Audience.ANYONE
                if name in users:
                    return Audience.USERS
            return Audience.USERS if request.method in _READING else Audience.OPERATORS

        @app.before_request
        def guard() -> None:
            rule = request.url_rule
            if rule is None or (request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False)):
                return  # answered without a view: 404, 405, or the methods there are
            if self.on_page() and request.method not in _READING:
                self._sessions.require_own_page()
            wanted = audience()
            if wanted is Audience.OPERATORS:
                self.operator()
            elif wanted is Audience.USERS:
                self.user()

    def _found(self) -> tuple[User, Token]:
        if "deltaml_user" not in g:
            g.deltaml_user = self._tokens.find(self._sessions.secret() if self.on_page() else _bearer())
        found: tuple[User, Token] = g.deltaml_user
        return found


def _bearer() -> str:
    header = request.headers.get("Authorization")
    if header is None:
        raise NotLoggedIn("log in (POST /users/login) and send the token: Authorization: Bearer TOKEN")
    found = _BEARER.fullmatch(header)
    if found is None:
        raise NotLoggedIn("the header must be, with one token: Authorization: Bearer TOKEN")
    return found[1]
