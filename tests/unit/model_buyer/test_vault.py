"""Private keys at rest are sealed under a secret that only the service's user can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from commons.errors import ConfigurationError
from model_buyer.vault import Vault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


def test_what_was_sealed_is_opened_by_the_same_secret_after_a_restart(path: Path) -> None:
    sealed = Vault(path).seal(b"private key")
    assert b"private key" not in sealed
    assert Vault(path).open(sealed) == b"private key"


def test_secret_is_made_once_and_readable_by_its_user_alone(path: Path) -> None:
    Vault(path)
    secret = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Vault(path)
    assert path.read_bytes() == secret
    assert list(path.parent.iterdir()) == [path]


def test_two_services_have_two_secrets(tmp_path: Path) -> None:
    Vault(tmp_path / "one")
    Vault(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_secret_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    Vault(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"can be read by others: chmod 600 {path}"):
        Vault(path)


def test_what_another_secret_sealed_stays_closed(tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "one").seal(b"private key")
    with pytest.raises(ConfigurationError, match="sealed under another secret: restore the secret.key"):
        Vault(tmp_path / "other").open(sealed)


def test_what_was_tampered_with_stays_closed(path: Path) -> None:
    sealed = bytearray(Vault(path).seal(b"private key"))
    sealed[-5] ^= 1
    with pytest.raises(ConfigurationError):
        Vault(path).open(bytes(sealed))


@pytest.mark.parametrize("content", [b"", b"hunter2", b"x" * 44, b"\xff" * 44])
def test_file_that_is_no_secret_is_refused_and_not_shown(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"the secret {path} cannot be used") as refusal:
        Vault(path)
    assert not content or content.decode("latin-1") not in str(refusal.value).replace(str(path), "")
    assert path.read_bytes() == content


def test_secret_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the secret .*secret.key cannot be used"):
        Vault(tmp_path / "missing" / "secret.key")


def test_crash_half_way_leaves_no_half_secret(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"half")
    Vault(path).open(Vault(path).seal(b"private key"))
    assert list(path.parent.iterdir()) == [path]


def test_secret_is_not_shown(path: Path) -> None:
    vault = Vault(path)
    assert path.read_text().strip() not in f"{vault!r} {vault}"
