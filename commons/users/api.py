"""Routes of users: the same at the buyer and at the owners."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any, Self

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import Field, SecretStr, StrictBool, StrictStr, model_validator

from commons.errors import InvalidInput, NotAuthorised
from commons.http import bodies
from commons.protocol.messages import Address, Body, Name, matching
from commons.users.accounts import Accounts
from commons.users.limits import client_key
from commons.users.passwords import MAX_LENGTH
from commons.users.storage import Registration, Role, Token, User
from commons.users.wallet import LOGIN, linking

Email = Annotated[
    StrictStr,
    Field(max_length=254),
    matching(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+", "must be an e-mail address"),
]
Password = Annotated[SecretStr, Field(max_length=MAX_LENGTH)]
SignedText = Annotated[StrictStr, Field(max_length=4000)]
Signature = Annotated[StrictStr, matching("0x[0-9a-fA-F]{130}", "must be a signature: 0x and 130 hexadecimal digits")]


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


class Page(Body):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 100
    offset: Annotated[int, Field(ge=0, lt=2**31)] = 0


class AddressField(Body):
    """The Ethereum account that a user acts through."""

    address: Address


FOR_ANYONE = frozenset({"users.create", "users.log_in", "users.nonce"})
"""Endpoints for whoever has not logged in."""


def document(user: User) -> dict[str, Any]:
    """Return a user as users see it."""
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "address": user.address,
        "created": user.created.isoformat(),
        "role": user.role,
        "disabled": user.disabled,
        "wallet": user.wallet,
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "prefix": token.prefix,
        "created": token.created.isoformat(),
        "expires": token.expires.isoformat(),
        "last_used": None if token.used is None else token.used.isoformat(),
    }


def _private(content: dict[str, Any]) -> Response:
    answer = jsonify(content)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def blueprint(accounts: Accounts, registration: Registration, account: str) -> Blueprint:
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
    routes = Blueprint("users", __name__, url_prefix="/users")

    def client() -> str:
        return client_key(request.remote_addr)

    @routes.post("")
    def create() -> ResponseReturnValue:
        fields = bodies.read(NewUser)
        name, email, password = fields.name, fields.email, fields.password.get_secret_value()
        by = access.user_if_any()
        if by is not None and by.role == Role.OPERATOR:
            password_hash = passwords.hash(password, name, email)
            made = users.add(name, email, password_hash, fields.role or Role.VIEWER)
        else:
            if fields.role is not None:
                raise NotAuthorised("roles are for operators to give")
            login.count(client())
            users.require_open(registration)  # before there is work
            made = users.register(name, email, passwords.hash(password, name, email), registration)
        return jsonify(document(made)), HTTPStatus.CREATED

    @routes.get("")
    def list_all() -> ResponseReturnValue:
        page = Page.model_validate(request.args.to_dict())
        user = access.user()
        found, total = users.page(page.limit, page.offset) if user.role == Role.OPERATOR else ([user], 1)
        listed = [document(user) for user in found]
        return jsonify({"users": listed, "total": total, "limit": page.limit, "offset": page.offset})

    @routes.get("/<uuid:user_id>")
    def show(user_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        return jsonify(document(users.get(user_id)))

    @routes.put("/<uuid:user_id>")
    def change(user_id: uuid.UUID) -> ResponseReturnValue:
        by = access.self_or_operator(user_id)
        values = bodies.read(ChangedUser).model_dump(mode="json", exclude_none=True)
        if by.role != Role.OPERATOR and not values.keys() <= {"name", "email"}:
            raise NotAuthorised("roles, and who is disabled, are for operators to change")
        return jsonify(document(users.change(user_id, **values)))

    @routes.delete("/<uuid:user_id>")
    def delete(user_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        users.delete(user_id)
        return "", HTTPStatus.NO_CONTENT

    @routes.post("/login")
    def log_in() -> ResponseReturnValue:
        proof = bodies.read(Proof)
        if proof.email is not None and proof.password is not None:
            secret, token = login.by_password(proof.email, proof.password.get_secret_value(), client())
        else:
            assert proof.message is not None and proof.signature is not None
            secret, token = login.by_wallet(proof.message, bytes.fromhex(proof.signature[2:]), client())
        return _private({"token": secret, "expires": token.expires.isoformat(), "user_id": str(token.user_id)})

    @routes.post("/logout")
    def log_out() -> ResponseReturnValue:
        token = access.token()
        tokens.revoke(token.user_id, token.id)
        return "", HTTPStatus.NO_CONTENT

    @routes.get("/nonce")
    def nonce() -> ResponseReturnValue:
        wanted = NonceFor.model_validate(request.args.to_dict())
        statement = LOGIN if wanted.user_id is None else linking(wanted.user_id)
        offer = wallets.offer(wanted.address or account, statement)
        return _private(
            {
                "nonce": offer.nonce,
                "domain": offer.domain,
                "uri": offer.uri,
                "version": "1",
                "chain_id": offer.chain_id,
                "statement": offer.statement,
                "issued_at": offer.issued_at,
                "message": None if wanted.address is None else str(offer),
            }
        )

    @routes.put("/<uuid:user_id>/password")
    def set_password(user_id: uuid.UUID) -> ResponseReturnValue:
        by = access.self_or_operator(user_id)
        fields = bodies.read(NewPassword)
        user = users.get(user_id)
        if by.id == user_id:
            if fields.current is None:
                raise InvalidInput("is missing: say the password that you have", "current")
            login.confirm(user, fields.current.get_secret_value(), client())
        hashed = passwords.hash(fields.new.get_secret_value(), user.name, user.email)
        users.change(user_id, password_hash=hashed)
        return "", HTTPStatus.NO_CONTENT

    @routes.get("/<uuid:user_id>/tokens")
    def list_tokens(user_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        return jsonify({"tokens": [_token(token) for token in tokens.of(users.get(user_id).id)]})

    @routes.delete("/<uuid:user_id>/tokens/<uuid:token_id>")
    def revoke_token(user_id: uuid.UUID, token_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        tokens.revoke(user_id, token_id)
        return "", HTTPStatus.NO_CONTENT

    @routes.post("/<uuid:user_id>/wallet")
    def link_wallet(user_id: uuid.UUID) -> ResponseReturnValue:
        user = access.require_own(user_id, f"user {user_id}")
        fields = bodies.read(NewWallet)
        login.confirm(user, fields.password.get_secret_value(), client())
        wallet = wallets.verify(fields.message, bytes.fromhex(fields.signature[2:]), linking(user_id))
        return jsonify(document(users.change(user_id, wallet=wallet)))

    @routes.delete("/<uuid:user_id>/wallet")
    def unlink_wallet(user_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        users.change(user_id, wallet=None)
        return "", HTTPStatus.NO_CONTENT

    @routes.post("/<uuid:user_id>/address")
    def set_address(user_id: uuid.UUID) -> ResponseReturnValue:
        access.self_or_operator(user_id)
        address = bodies.read(AddressField).address
        if address.lower() != account.lower():
            raise InvalidInput(f"this service acts through its own account, {account}: give that one", "address")
        return jsonify(document(users.change(user_id, address=account)))

    return routes
