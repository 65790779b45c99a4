"""``deltaml user``: the users of a service, on the service's own machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from commons.configuration import DATABASES
from commons.database import Database
from commons.errors import ConfigurationError, DeltaMLError, InvalidInput, NotFound
from commons.protocol.messages import Name, problems_of
from commons.users.api import Email
from commons.users.passwords import Passwords
from commons.users.storage import Role, User, Users
from commons.users.tokens import Tokens

app = typer.Typer(no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="DELTAML_DATABASE_URL",
        show_envvar=True,
        help="The service's database. Others see what is on a command line: a URL with a password is for the variable.",
        show_default=False,
    ),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="DELTAML_DATA_DIR",
        help="The service's data directory, if its database is the one there.",
        show_default=False,
    ),
]
EmailOption = Annotated[str, typer.Option("--email", metavar="ADDRESS", help="The user's e-mail address.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", metavar="FILE", help="The password, if nobody is to be asked for it.", show_default=False
    ),
]


@app.callback()
def main() -> None:
    """Make users and tokens. The service may be running; it has to have been started once."""


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The user's name.")],
    email: EmailOption,
    role: Annotated[
        Role | None,
        typer.Option(
            help="An operator acts for the service; a viewer looks, and has what is its own. Without it, the first"
            " user becomes an operator, others become viewers.",
            show_default=False,
        ),
    ] = None,
    password_file: PasswordFile = None,
    database: Url = None,
    data_dir: Directory = None,
) -> None:
    """Make a user, and print its id. The password is asked for, twice."""
    with _users(database, data_dir) as (users, _):
        _check(Name, name, "name")
        _check(Email, email, "email")
        password_hash = Passwords().hash(_password(password_file), name, email)
        typer.echo(users.add(name, email, password_hash, role).id)


@app.command("password")
def password(
    email: EmailOption,
    password_file: PasswordFile = None,
    database: Url = None,
    data_dir: Directory = None,
) -> None:
    """Give a user another password. Its tokens are revoked."""
    with _users(database, data_dir) as (users, _):
        user = _user(users, email)
        users.change(user.id, password_hash=Passwords().hash(_password(password_file), user.name, user.email))


@app.command("token")
def token(
    email: EmailOption,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=3650, help="How long it counts.")] = 90,
    database: Url = None,
    data_dir: Directory = None,
) -> None:
    """Make a bearer token for scripts, and print it. It cannot be shown again."""
    with _users(database, data_dir) as (users, tokens):
        typer.echo(tokens.issue(_user(users, email), timedelta(days=days))[0])


@contextmanager
def _users(url: str | None, data_dir: Path | None) -> Iterator[tuple[Users, Tokens]]:
    errors = Console(stderr=True)
    os.umask(0o077)
    try:
        on = Database(_database(url, data_dir))
        try:
            yield Users(on), Tokens(on)
        finally:
            on.close()
    except DBAPIError as error:  # its whole text would have the statement's values
        reason = f"the database: {error.orig}: start the service once, which makes its tables"
    except DeltaMLError as error:
        reason = str(error)
    else:
        return
    errors.print(reason, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1)


def _database(url: str | None, data_dir: Path | None) -> str:
    if url is None:
        if data_dir is None:
            raise ConfigurationError("say which service's users: --data-dir DIR or --database URL")
        url = f"sqlite:///{data_dir / 'service.db'}"
    if not url.startswith(DATABASES):
        raise ConfigurationError("the database must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not path.is_file():
        raise ConfigurationError(f"there is no database {path}: start the service once, which makes it")
    return url


def _user(users: Users, email: str) -> User:
    user = users.by_email(email)
    if user is None:
        raise NotFound(f"there is no user with the e-mail address {email}")
    return user


def _password(path: Path | None) -> str:
    if path is None:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {type(error).__name__}", "password") from None


def _check(kind: Any, value: str, field: str) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)[0]["reason"], field) from None
