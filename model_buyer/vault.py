"""Private keys at rest: encrypted under a secret that the service makes on its first start."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from commons.errors import ConfigurationError


class Vault:
    """Seals and opens what must not be readable in the database.

    Parameters
    ----------
    path : Path
        File of the secret, mode 600; made if it does not exist.

    Raises
    ------
    ConfigurationError
        The file is no secret, or others can read it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._make(path)
            if path.stat().st_mode & 0o077:
                raise ConfigurationError(f"{path} can be read by others: chmod 600 {path}")
            self._fernet = Fernet(path.read_bytes().strip())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the secret {path} cannot be used: {error}") from None

    def __repr__(self) -> str:
        """Say nothing of the secret."""
        return "Vault()"

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate."""
        return self._fernet.encrypt(content)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt; ConfigurationError if it was sealed under another secret."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ConfigurationError(
                "a training's key was sealed under another secret: restore the secret.key of this database"
            ) from None

    @staticmethod
    def _make(path: Path) -> None:
        if path.exists():
            return
        draft = path.with_suffix(".new")  # a crash half way must not leave half a secret
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
