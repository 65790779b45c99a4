"""A service's configuration: everything that is wrong is named, nothing that is secret is shown."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from pydantic import ValidationError

import data_owner.config
import federated_aggregator.config
import model_buyer.config
from commons import configuration
from commons.configuration import Config
from commons.errors import ConfigurationError

KEY = "0x" + "1b" * 32
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
PASSWORD = "correct horse"
ENVIRONMENT = {
    "DELTAML_ACCOUNT_PRIVATE_KEY": KEY,
    "DELTAML_CONTRACT_ADDRESS": ADDRESS,
    "PATH": "/bin",
}


def read(directory: Path, **variables: str | None) -> Config:
    """Read a configuration from the usual environment, with these variables (without their prefix) set or unset."""
    changes = {f"DELTAML_{name}": value for name, value in variables.items()}
    environment = {name: value for name, value in (ENVIRONMENT | changes).items() if value is not None}
    return configuration.read(Config, environment, data_dir=directory / "data", public_url="http://127.0.0.1:5000")


def test_environment_goes_before_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, PUBLIC_URL="https://owner.example", MAX_UPLOAD_MB="7", LOG_LEVEL="DEBUG")
    assert (config.public_url, config.max_upload_mb, config.log_level) == ("https://owner.example", 7, "DEBUG")
    assert read(tmp_path).public_url == "http://127.0.0.1:5000"


def test_database_is_a_file_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path).database == f"sqlite:///{tmp_path}/data/service.db"
    url = "postgresql://owner:secret@db.example/owner"
    assert read(tmp_path, DATABASE_URL=url).database == url


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DATABASE": "x"}, "DELTAML_DATABASE: is not known here"),
        ({"CHAIN_URL": "localhost:8545"}, "DELTAML_CHAIN_URL: must be a URL"),
        ({"PUBLIC_URL": ""}, "DELTAML_PUBLIC_URL: must be a URL"),
        ({"LOG_LEVEL": "verbose"}, "DELTAML_LOG_LEVEL: .*DEBUG|INFO|WARNING|ERROR"),
        ({"MAX_UPLOAD_MB": "0"}, "DELTAML_MAX_UPLOAD_MB: .*greater than or equal to 1"),
        ({"MAX_UPLOAD_MB": "much"}, "DELTAML_MAX_UPLOAD_MB: .*valid integer"),
        ({"CONTRACT_ADDRESS": "0x12"}, "DELTAML_CONTRACT_ADDRESS: must be an Ethereum address"),
        ({"CONTRACT_ADDRESS": None}, "set DELTAML_CONTRACT_ADDRESS or DELTAML_CONTRACT_ADDRESS_FILE"),
        ({"CONTRACT_ADDRESS_FILE": "file"}, "set DELTAML_CONTRACT_ADDRESS or DELTAML_CONTRACT_ADDRESS_FILE"),
        ({"ACCOUNT_PRIVATE_KEY": None}, "set DELTAML_ACCOUNT_KEYSTORE and DELTAML_ACCOUNT_PASSWORD_FILE, or"),
        ({"ACCOUNT_KEYSTORE": "file"}, "set DELTAML_ACCOUNT_KEYSTORE and DELTAML_ACCOUNT_PASSWORD_FILE, or"),
        (
            {"ACCOUNT_PRIVATE_KEY": None, "ACCOUNT_KEYSTORE": "file"},
            "DELTAML_ACCOUNT_KEYSTORE needs DELTAML_ACCOUNT_PASSWORD_FILE",
        ),
        ({"DATABASE_URL": "mysql://root:hunter2@db/x"}, "DELTAML_DATABASE_URL: must be sqlite:///PATH or postgresql"),
        ({"DATABASE_URL": "service.db"}, "DELTAML_DATABASE_URL: must be sqlite:///PATH or postgresql"),
    ],
)
def test_wrong_variable_is_named(tmp_path: Path, variables: dict[str, str | None], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refusal:
        read(tmp_path, **variables)
    assert "hunter2" not in str(refusal.value)
    assert KEY[2:] not in str(refusal.value)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DELTAML_CHAIN_URL.*; DELTAML_LOG_LEVEL"):
        read(tmp_path, CHAIN_URL="x", LOG_LEVEL="x")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (data_owner.config.Config, None),
        (federated_aggregator.config.Config, None),
        (model_buyer.config.Config, "DELTAML_ARBITER_ADDRESS: is missing"),
    ],
)
def test_missing_variable_is_named(tmp_path: Path, config: type[Config], words: str | None) -> None:
    def make() -> Config:
        return configuration.read(config, ENVIRONMENT, data_dir=tmp_path, public_url="http://127.0.0.1:1")

    if words is None:
        assert make().chain_url == "http://127.0.0.1:8545"
    else:
        with pytest.raises(ConfigurationError, match=words):
            make()


def test_configuration_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read(tmp_path).log_level = "DEBUG"


def test_private_key_is_the_account(tmp_path: Path) -> None:
    assert read(tmp_path).account().address == Account.from_key(KEY).address


@pytest.mark.parametrize("end", ["", "\n"])
def test_keystore_and_password_are_the_account(tmp_path: Path, end: str) -> None:
    config = with_keystore(tmp_path, Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10), PASSWORD + end)
    assert config.account().address == Account.from_key(KEY).address


@pytest.mark.parametrize(
    "keystore",
    ["", "no JSON", "[]", "7", "{}", '{"version": 3}', '{"version": 3, "crypto": {}}', '{"version": 9, "crypto": {}}'],
)
def test_keystore_that_is_none_is_refused(tmp_path: Path, keystore: str) -> None:
    path = tmp_path / "keystore.json"
    path.write_text(keystore)
    with pytest.raises(ConfigurationError, match="account cannot be unlocked: check the key, or the keystore"):
        with_keystore(tmp_path, None, PASSWORD).account()


def test_wrong_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    keystore = Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10)
    with pytest.raises(ConfigurationError, match="account cannot be unlocked") as refusal:
        with_keystore(tmp_path, keystore, "battery staple").account()
    assert refusal.value.__cause__ is None and "battery" not in str(refusal.value)


@pytest.mark.parametrize("key", ["0x12", "hunter2", "", "0x" + "00" * 32, "0x" + "ff" * 32, "0x" + "1b" * 33])
def test_private_key_that_is_none_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match="account cannot be unlocked") as refusal:
        read(tmp_path, ACCOUNT_PRIVATE_KEY=key).account()
    assert refusal.value.__cause__ is None
    assert not key or key not in str(refusal.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    config = read(tmp_path, CONTRACT_ADDRESS=None, CONTRACT_ADDRESS_FILE=str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="DELTAML_CONTRACT_ADDRESS_FILE: .*No such file.*nothing"):
        config.contract()
    config = read(
        tmp_path,
        ACCOUNT_PRIVATE_KEY=None,
        ACCOUNT_KEYSTORE=str(tmp_path / "nothing"),
        ACCOUNT_PASSWORD_FILE=str(tmp_path / "nothing"),
    )
    with pytest.raises(ConfigurationError, match="DELTAML_ACCOUNT_KEYSTORE: .*No such file"):
        config.account()


def test_contract_address_comes_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "contract-address"
    config = read(tmp_path, CONTRACT_ADDRESS=None, CONTRACT_ADDRESS_FILE=str(path))
    path.write_text(f"{ADDRESS}\n")
    assert config.contract() == ADDRESS
    for content in (b"", b"0x12", b"\xff\xfe", ADDRESS.encode() * 2):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="DELTAML_CONTRACT_ADDRESS_FILE: "):
            config.contract()


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    config = read(tmp_path, DATABASE_URL="postgresql://owner:hunter2@db.example/owner")
    shown = f"{config!r} {config} {config.model_dump()} {json.dumps(config.model_dump(mode='json'))}"
    assert "hunter2" not in shown
    assert KEY[2:] not in shown


def test_data_directory_is_for_this_user_alone(tmp_path: Path) -> None:
    config = read(tmp_path)
    config.prepare()
    config.prepare()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigurationError, match="DELTAML_DATA_DIR: "):
        read(tmp_path).prepare()


def with_keystore(directory: Path, keystore: dict[str, Any] | None, password: str) -> Config:
    """Read a configuration with a keystore (None: the one that lies there) and its password in files."""
    path = directory / "keystore.json"
    if keystore is not None:
        path.write_text(json.dumps(keystore))
    (directory / "password").write_text(password)
    return read(
        directory,
        ACCOUNT_PRIVATE_KEY=None,
        ACCOUNT_KEYSTORE=str(path),
        ACCOUNT_PASSWORD_FILE=str(directory / "password"),
    )
