"""A service's configuration: read once from the environment, checked, then frozen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from commons.errors import ConfigurationError, Conflict
from commons.protocol.messages import Address, NodeUrl, Url, problems_of
from commons.users.registration import Registration

PREFIX = "DELTAML_"
DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")

AnyConfig = TypeVar("AnyConfig", bound="Config")


class Config(BaseModel):
    """What every service needs to know. Each field is the environment variable ``DELTAML_<FIELD>``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    data_dir: Path
    public_url: Url
    database_url: SecretStr | None = None
    chain_url: NodeUrl = "http://127.0.0.1:8545"
    contract_address: Address | None = None
    contract_address_file: Path | None = None
    account_private_key: SecretStr | None = None
    account_keystore: Path | None = None
    account_password_file: Path | None = None
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    max_upload_mb: int = Field(default=1024, ge=1)
    registration: Registration = Registration.FIRST
    token_hours: float = Field(default=12, gt=0, le=24 * 365)

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(DATABASES):
            raise ValueError("must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")
        return url

    @model_validator(mode="after")
    def _one_account(self) -> Self:
        if (self.account_private_key is None) == (self.account_keystore is None):
            raise ValueError(
                "set DELTAML_ACCOUNT_KEYSTORE and DELTAML_ACCOUNT_PASSWORD_FILE, or, for a development chain only,"
                " DELTAML_ACCOUNT_PRIVATE_KEY"
            )
        if self.account_keystore is not None and self.account_password_file is None:
            raise ValueError("DELTAML_ACCOUNT_KEYSTORE needs DELTAML_ACCOUNT_PASSWORD_FILE")
        return self

    @model_validator(mode="after")
    def _one_contract(self) -> Self:
        if (self.contract_address is None) == (self.contract_address_file is None):
            raise ValueError("set DELTAML_CONTRACT_ADDRESS or DELTAML_CONTRACT_ADDRESS_FILE")
        return self

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the service's database: by default a SQLite file in its data directory."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'service.db'}"

    def contract(self) -> str:
        """Return the marketplace's address."""
        if self.contract_address is not None:
            return self.contract_address
        assert self.contract_address_file is not None
        variable = "DELTAML_CONTRACT_ADDRESS_FILE"
        try:
            return TypeAdapter(Address).validate_python(_read(self.contract_address_file, variable).strip())
        except ValidationError:
            raise ConfigurationError(f"{variable}: {self.contract_address_file} has no Ethereum address") from None

    def keep_contract(self, address: str) -> None:
        """Have the next start find another marketplace: replace the address in its file.

        Raises
        ------
        Conflict
            The address is not in a file, or in one that this service cannot write.
        """
        file = self.contract_address_file
        if file is None:
            raise Conflict("DELTAML_CONTRACT_ADDRESS says which contract it is: change it there, and restart")
        draft = file.with_name(f"{file.name}.new")
        try:
            draft.write_text(f"{address}\n")
            shutil.copymode(file, draft)  # others may have to read it
            draft.replace(file)
        except OSError as error:
            raise Conflict(
                f"DELTAML_CONTRACT_ADDRESS_FILE cannot be written ({error.strerror}): change it where it is made, and"
                " restart"
            ) from None

    def account(self) -> LocalAccount:
        """Unlock the service's Ethereum account."""
        secret = self.account_private_key
        return unlock(
            None if secret is None else secret.get_secret_value(), self.account_keystore, self.account_password_file
        )

    def prepare(self) -> None:
        """Make the data directory, readable by this user alone."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(f"DELTAML_DATA_DIR: {error}") from None


def read(config: type[AnyConfig], environment: Mapping[str, str] = os.environ, **defaults: Any) -> AnyConfig:
    """Read a configuration from the environment.

    Parameters
    ----------
    config : type
        The configuration of the service.
    environment : mapping
        Where the variables are.
    **defaults
        Values for what the environment leaves open.

    Raises
    ------
    ConfigurationError
        A variable is missing, unknown or wrong; the text names it.
    """
    values = {key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)}
    try:
        return config.model_validate({**defaults, **values})
    except ValidationError as error:
        reasons = [
            item["reason"] if item["field"] == "body" else f"{PREFIX}{item['field'].upper()}: {item['reason']}"
            for item in problems_of(error)
        ]
        raise ConfigurationError("; ".join(reasons)) from None


def unlock(private_key: str | None, keystore: Path | None, password_file: Path | None) -> LocalAccount:
    """Return the account of a private key, or of a keystore and the file with its password.

    Raises
    ------
    ConfigurationError
        Neither is given, or it is none. The text does not quote it.
    """
    try:
        if private_key is not None:
            return _account(private_key)
        if keystore is None or password_file is None:
            raise ConfigurationError("an Ethereum account is needed: a keystore and the file with its password")
        content = _read(keystore, "DELTAML_ACCOUNT_KEYSTORE")
        password = _read(password_file, "DELTAML_ACCOUNT_PASSWORD_FILE").rstrip("\n")
        return _account(Account.decrypt(content, password))
    except ConfigurationError:
        raise
    except Exception:  # the libraries raise many kinds, and their texts may quote the key
        raise ConfigurationError(
            "the Ethereum account cannot be unlocked: check the key, or the keystore and its password"
        ) from None


def _account(key: str | bytes) -> LocalAccount:
    account: LocalAccount = Account.from_key(key)
    return account


def _read(path: Path, variable: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}: {error}") from None
