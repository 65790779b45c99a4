"""Routes of users: the same at the buyer and at the owners."""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal, Self

from flask import Response, request
from pydantic import Field, SecretStr, StrictBool, StrictStr, model_validator

from commons.errors import InvalidInput, NotAuthorised
from commons.http import bodies
from commons.http.documents import Listing, Page
from commons.http.routes import PUBLIC, TOKEN_IF_ANY, Routes, problems
from commons.protocol.messages import Address, Body, Matching, Name
from commons.users.accounts import Accounts
from commons.users.limits import client_key
from commons.users.passwords import MAX_LENGTH
from commons.users.registration import Registration
from commons.users.storage import Role, Token, User
from commons.users.wallet import LOGIN, linking

Email = Annotated[
    StrictStr,
    Field(max_length=254),
    Matching(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+", "must be an e-mail address"),
]
Password = Annotated[SecretStr, Field(max_length=MAX_LENGTH)]
SignedText = Annotated[StrictStr, Field(max_length=4000)]
Signature = Annotated[StrictStr, Matching("0x[0-9a-fA-F]{130}", "must be a signature: 0x and 130 hexadecimal digits")]


class UserFields(Body):
    """What a user says of itself."""

    name: Name
    email: Email


class NewUser(UserFields):
    """A user to be. Roles are for operators to give."""

    password: Password
    role: Role | None = None


class ChangedUser(UserFields):
    """A user as it shall be. Role and disabling are for operators to change; None leaves them as they are."""

    role: Role | None = None
    disabled: StrictBool | None = None


class Proof(Body):
    """Who somebody is: an e-mail address and a password, or a message (EIP-4361) and a wallet's signature of it."""

    email: Annotated[StrictStr, Field(max_length=254)] | None = None
    password: Password | None = None
    message: SignedText | None = None
    signature: Signature | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"email", "password"}, {"message", "signature"}):
            raise ValueError("send either email and password, or message and signature")
        return self


class NewPassword(Body):
    """A password, and the one before, so that a stolen token is no way to stay. Operators need not know others'."""

    new: Password
    current: Password | None = None


class NewWallet(Body):
    """A wallet's signature that it is a user's, and the user's password."""

    message: SignedText
    signature: Signature
    password: Password


class NonceFor(Body):
    """Whose wallet is to sign, and which user it is to be linked to: none to log in."""

    address: Address | None = None
    user_id: uuid.UUID | None = None


class AddressField(Body):
    """The Ethereum account that a user acts through."""

    address: Address


BODY_BYTES = 64 * 2**10
"""Of a body at most: whoever has not logged in may send one."""

FOR_ANYONE = frozenset({"users.create", "users.log_in", "users.nonce"})
"""Endpoints for whoever has not logged in."""


class UserDocument(Body):
    """A user as users see it."""

    id: uuid.UUID
    name: str
    email: str
    address: str | None
    created: datetime
    role: Role
    disabled: bool
    wallet: str | None


class UserList(Listing):
    """Some of the users that one sees: all for operators, itself for others."""

    users: list[UserDocument]


class Session(Body):
    """Who has logged in, and the token to send with every call. It is shown here only."""

    token: str
    expires: datetime
    user_id: uuid.UUID


class Challenge(Body):
    """What a wallet is to sign (EIP-4361): ``message``, if its address was given; else to be made of the rest."""

    nonce: str
    domain: str
    uri: str
    version: Literal["1"] = "1"
    chain_id: int
    statement: str | None
    issued_at: str
    message: str | None


class TokenDocument(Body):
    """A token as its user sees it: not the token itself, but how it begins."""

    id: uuid.UUID
    prefix: str
    created: datetime
    expires: datetime
    last_used: datetime | None


class TokenList(Body):
    """The tokens of a user."""

    tokens: list[TokenDocument]


def document(user: User) -> UserDocument:
    """Return a user as users see it."""
    return UserDocument.model_validate(user, from_attributes=True)


def _token(token: Token) -> TokenDocument:
    return TokenDocument(
        id=token.id, prefix=token.prefix, created=token.created, expires=token.expires, last_used=token.used
    )


def _private(content: Body) -> Response:
    answer = bodies.document(content)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def make_user(accounts: Accounts, registration: Registration, body: NewUser) -> User:
    """Make a user for whoever sends the current request: for an operator any, otherwise as registration is open.

    Raises
    ------
    NotAuthorised
        Registration is closed, or a role was asked for, or by a page as :meth:`Sessions.require_fixed_name`.
    InvalidInput
        The password is too weak.
    Conflict
        The e-mail address is taken.
    TooManyRequests
        There were too many tries.
    """
    name, email, password = body.name, body.email, body.password.get_secret_value()
    users, passwords = accounts.users, accounts.passwords
    by = accounts.access.user_if_any()
    if by is not None and by.role == Role.OPERATOR:
        return users.add(name, email, passwords.hash(password, name, email), body.role or Role.VIEWER)
    if body.role is not None:
        raise NotAuthorised("roles are for operators to give")
    accounts.sessions.require_fixed_name()
    accounts.login.count(_client())
    users.require_open(registration)  # before there is work
    return users.register(name, email, passwords.hash(password, name, email), registration)


def open_session(accounts: Accounts, body: Proof) -> tuple[str, Token]:
    """Return a new token for who sends the current request, and what is known of it; raises as :class:`Login`."""
    if body.email is not None and body.password is not None:
        return accounts.login.by_password(body.email, body.password.get_secret_value(), _client())
    assert body.message is not None and body.signature is not None
    return accounts.login.by_wallet(body.message, bytes.fromhex(body.signature[2:]), _client())


def _client() -> str:
    return client_key(request.remote_addr)


def blueprint(accounts: Accounts, registration: Registration, account: str) -> Routes:
    """Make the routes. They look after themselves: to :meth:`commons.users.access.Access.protect` they are for users.

    Those of :data:`FOR_ANYONE` are for whoever has not logged in.

    Parameters
    ----------
    accounts : Accounts
        The users of the service.
    registration : Registration
        Who may make a user without being an operator.
    account : str
        Address of the service's Ethereum account.
    """
    users, tokens, passwords = accounts.users, accounts.tokens, accounts.passwords
    wallets, login, access = accounts.wallets, accounts.login, accounts.access
    routes = Routes("users", __name__, "Accounts, logging in, tokens and wallets", url_prefix="/users")

    @routes.before_request
    def bound() -> None:
        request.max_content_length = BODY_BYTES

    @routes.post(
        "",
        responses={HTTPStatus.CREATED: UserDocument, **problems(HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)},
        security=TOKEN_IF_ANY,
    )
    def create(body: NewUser) -> UserDocument:
        """Make a user: as an operator any, otherwise as far as registration is open."""
        return document(make_user(accounts, registration, body))

    @routes.get("", responses={HTTPStatus.OK: UserList})
    def list_all(query: Page) -> UserList:
        """List the users that one sees."""
        user = access.user()
        found, total = users.page(query.limit, query.offset) if user.role == Role.OPERATOR else ([user], 1)
        listed = [document(user) for user in found]
        return UserList(users=listed, total=total, limit=query.limit, offset=query.offset)

    @routes.get("/<uuid:user_id>", responses={HTTPStatus.OK: UserDocument})
    def show(user_id: uuid.UUID) -> UserDocument:
        """Show a user: oneself, or as an operator any."""
        access.self_or_operator(user_id)
        return document(users.get(user_id))

    @routes.put("/<uuid:user_id>", responses={HTTPStatus.OK: UserDocument, **problems(HTTPStatus.CONFLICT)})
    def change(user_id: uuid.UUID, body: ChangedUser) -> UserDocument:
        """Change a user: oneself, or as an operator any, and its role."""
        by = access.self_or_operator(user_id)
        values = body.model_dump(mode="json", exclude_none=True)
        if by.role != Role.OPERATOR and not values.keys() <= {"name", "email"}:
            raise NotAuthorised("roles, and who is disabled, are for operators to change")
        return document(users.change(user_id, **values))

    @routes.delete("/<uuid:user_id>", responses={HTTPStatus.NO_CONTENT: None, **problems(HTTPStatus.CONFLICT)})
    def delete(user_id: uuid.UUID) -> None:
        """Delete a user that owns nothing: oneself, or as an operator any."""
        access.self_or_operator(user_id)
        users.delete(user_id)

    @routes.post(
        "/login",
        responses={HTTPStatus.OK: Session, **problems(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)},
        security=PUBLIC,
    )
    def log_in(body: Proof) -> Response:
        """Log in, by e-mail address and password or by a wallet, to a token."""
        secret, token = open_session(accounts, body)
        return _private(Session(token=secret, expires=token.expires, user_id=token.user_id))

    @routes.post("/logout", responses={HTTPStatus.NO_CONTENT: None})
    def log_out() -> None:
        """Revoke the token that this is called with."""
        token = access.token()
        tokens.revoke(token.user_id, token.id)

    @routes.get(
        "/nonce",
        responses={HTTPStatus.OK: Challenge, **problems(HTTPStatus.SERVICE_UNAVAILABLE)},
        security=PUBLIC,
    )
    def nonce(query: NonceFor) -> Response:
        """Say what a wallet is to sign to log in, or to be linked to a user."""
        statement = LOGIN if query.user_id is None else linking(query.user_id)
        offer = wallets.offer(query.address or account, statement)
        return _private(
            Challenge(
                nonce=offer.nonce,
                domain=offer.domain,
                uri=offer.uri,
                chain_id=offer.chain_id,
                statement=offer.statement,
                issued_at=offer.issued_at,
                message=None if query.address is None else str(offer),
            )
        )

    @routes.put(
        "/<uuid:user_id>/password",
        responses={HTTPStatus.NO_CONTENT: None, **problems(HTTPStatus.TOO_MANY_REQUESTS)},
    )
    def set_password(user_id: uuid.UUID, body: NewPassword) -> None:
        """Change a password: one's own by saying it, or as an operator any other's. All of its tokens are revoked."""
        by = access.self_or_operator(user_id)
        user = users.get(user_id)
        if by.id == user_id:
            if body.current is None:
                raise InvalidInput("is missing: say the password that you have", "current")
            login.confirm(user, body.current.get_secret_value(), _client())
        hashed = passwords.hash(body.new.get_secret_value(), user.name, user.email, field="new")
        users.change(user_id, password_hash=hashed)

    @routes.get("/<uuid:user_id>/tokens", responses={HTTPStatus.OK: TokenList})
    def list_tokens(user_id: uuid.UUID) -> TokenList:
        """List a user's tokens that count."""
        access.self_or_operator(user_id)
        return TokenList(tokens=[_token(token) for token in tokens.of(users.get(user_id).id)])

    @routes.delete("/<uuid:user_id>/tokens/<uuid:token_id>", responses={HTTPStatus.NO_CONTENT: None})
    def revoke_token(user_id: uuid.UUID, token_id: uuid.UUID) -> None:
        """Revoke one of a user's tokens."""
        access.self_or_operator(user_id)
        tokens.revoke(user_id, token_id)

    @routes.post(
        "/<uuid:user_id>/wallet",
        responses={HTTPStatus.OK: UserDocument, **problems(HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)},
    )
    def link_wallet(user_id: uuid.UUID, body: NewWallet) -> UserDocument:
        """Link a wallet to oneself, to log in with."""
        user = access.require_own(user_id, f"user {user_id}")
        login.confirm(user, body.password.get_secret_value(), _client())
        wallet = wallets.verify(body.message, bytes.fromhex(body.signature[2:]), linking(user_id))
        return document(users.change(user_id, wallet=wallet))

    @routes.delete("/<uuid:user_id>/wallet", responses={HTTPStatus.NO_CONTENT: None})
    def unlink_wallet(user_id: uuid.UUID) -> None:
        """Unlink a user's wallet."""
        access.self_or_operator(user_id)
        users.change(user_id, wallet=None)

    @routes.post("/<uuid:user_id>/address", responses={HTTPStatus.OK: UserDocument})
    def set_address(user_id: uuid.UUID, body: AddressField) -> UserDocument:
        """Say that a user acts through the service's account."""
        access.self_or_operator(user_id)
        if body.address.lower() != account.lower():
            raise InvalidInput(f"this service acts through its own account, {account}: give that one", "address")
        return document(users.change(user_id, address=account))

    return routes
