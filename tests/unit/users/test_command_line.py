"""``deltaml user``: the first user, another password, and tokens for scripts."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import data_owner.app
from commons.command_line import app
from commons.database import Database
from commons.users.passwords import Passwords
from commons.users.storage import Users
from commons.users.tokens import Tokens

PASSWORD = "seven wooden horses"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    on.migrate(data_owner.app.MIGRATIONS)
    on.close()
    return tmp_path


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in ("DELTAML_DATA_DIR", "DELTAML_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


def create(runner: CliRunner, directory: Path, *more: str, email: str = "ada@example.org", text: str = "") -> Result:
    arguments = ["user", "create", "--name", "Ada", "--email", email, "--data-dir", str(directory), *more]
    return runner.invoke(app, arguments, input=text)


def twice(password: str) -> str:
    return f"{password}\n{password}\n"


def users(directory: Path) -> Users:
    return Users(Database(f"sqlite:///{directory / 'service.db'}"))


def test_user_is_made_with_the_password_that_is_asked_for_twice(runner: CliRunner, directory: Path) -> None:
    result = create(runner, directory, "--role", "operator", text=twice(PASSWORD))
    assert result.exit_code == 0, result.output
    made = users(directory).all()[0]
    assert (made.name, made.email, made.role) == ("Ada", "ada@example.org", "operator")
    assert Passwords().verify(made.password_hash, PASSWORD)
    assert result.stdout.strip().endswith(str(made.id))
    assert PASSWORD not in result.output


def test_password_comes_from_a_file_without_its_line_end(runner: CliRunner, directory: Path) -> None:
    path = directory / "password"
    path.write_text(f"{PASSWORD}\n")
    result = create(runner, directory, "--password-file", str(path))
    assert result.exit_code == 0, result.output
    made = users(directory).all()[0]
    assert uuid.UUID(result.stdout.strip()) == made.id
    assert Passwords().verify(made.password_hash, PASSWORD)


def test_first_user_is_an_operator_and_later_ones_are_viewers_unless_said_otherwise(
    runner: CliRunner, directory: Path
) -> None:
    path = directory / "password"
    path.write_text(PASSWORD)
    for number, more in enumerate([[], [], ["--role", "operator"], ["--role", "viewer"]]):
        create(runner, directory, "--password-file", str(path), *more, email=f"{number}@example.org")
    assert [user.role for user in users(directory).all()] == ["operator", "viewer", "operator", "viewer"]


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        ([], twice("short"), "must have 12 to 256 characters"),
        ([], twice("ada@example.org"), "is too easy to guess"),
        ([], f"{PASSWORD}\nseven wooden horse\n", "do not match"),
        (["--email", "ada"], twice(PASSWORD), "must be an e-mail address"),
        (["--name", ""], twice(PASSWORD), "name: "),
        (["--role", "root"], "", "root"),
        (["--password-file", "/nowhere"], "", "/nowhere cannot be read"),
    ],
)
def test_user_that_breaks_a_rule_is_not_made(
    runner: CliRunner, directory: Path, arguments: list[str], text: str, words: str
) -> None:
    result = create(runner, directory, *arguments, text=text)
    assert result.exit_code != 0
    assert words in " ".join(result.output.split())
    assert users(directory).all() == []
    assert PASSWORD not in result.output


def test_user_that_is_there_already_is_told(runner: CliRunner, directory: Path) -> None:
    assert create(runner, directory, text=twice(PASSWORD)).exit_code == 0
    result = create(runner, directory, email="ADA@example.org", text=twice(PASSWORD))
    assert result.exit_code == 1
    assert "there is a user with the e-mail address" in result.stderr


def test_token_is_printed_alone_and_counts_as_long_as_said(runner: CliRunner, directory: Path) -> None:
    create(runner, directory, text=twice(PASSWORD))
    arguments = ["user", "token", "--email", "Ada@example.org", "--days", "7", "--data-dir", str(directory)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1 and result.stderr == ""
    on = Database(f"sqlite:///{directory / 'service.db'}")
    user, token = Tokens(on).find(result.stdout.strip())
    assert user.email == "ada@example.org"
    assert abs(token.expires - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=1)
    on.close()


def test_another_password_revokes_the_tokens(runner: CliRunner, directory: Path) -> None:
    create(runner, directory, text=twice(PASSWORD))
    where = ["--email", "ada@example.org", "--data-dir", str(directory)]
    runner.invoke(app, ["user", "token", *where])
    result = runner.invoke(app, ["user", "password", *where], input=twice("eight iron horses"))
    assert result.exit_code == 0, result.output
    user = users(directory).all()[0]
    assert Passwords().verify(user.password_hash, "eight iron horses")
    on = Database(f"sqlite:///{directory / 'service.db'}")
    assert Tokens(on).of(user.id) == []
    on.close()


def test_environment_of_the_service_says_where_its_users_are(runner: CliRunner, directory: Path) -> None:
    create(runner, directory, text=twice(PASSWORD))
    url = f"sqlite:///{directory / 'service.db'}"
    for variable, value in (("DELTAML_DATA_DIR", str(directory)), ("DELTAML_DATABASE_URL", url)):
        result = runner.invoke(app, ["user", "token", "--email", "ada@example.org"], env={variable: value})
        assert result.stdout.startswith("deltaml_")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say which service's users"),
        (["--data-dir", "/nowhere"], "there is no database /nowhere/service.db: start the service once"),
        (["--database", "sqlite:////nowhere/x.db"], "there is no database /nowhere/x.db"),
        (["--database", "mysql://u:secret@host/x"], "the database must be sqlite:///PATH or postgresql://"),
    ],
)
def test_service_that_is_not_there_is_told(runner: CliRunner, arguments: list[str], words: str) -> None:
    result = runner.invoke(app, ["user", "token", "--email", "ada@example.org", *arguments])
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split()) and "secret" not in result.output
    assert not Path("/nowhere").exists()


def test_database_without_tables_is_told_without_what_was_to_be_written(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "service.db").touch()
    result = create(runner, tmp_path, text=twice(PASSWORD))
    assert result.exit_code == 1
    assert "no such table: users: start the service once" in " ".join(result.stderr.split())
    assert "argon2" not in result.output and "ada@example.org" not in result.output


def test_unknown_user_gets_no_token(runner: CliRunner, directory: Path) -> None:
    result = runner.invoke(app, ["user", "token", "--email", "eve@example.org", "--data-dir", str(directory)])
    assert result.exit_code == 1 and result.stdout == ""
    assert "there is no user with the e-mail address eve@example.org" in " ".join(result.stderr.split())
