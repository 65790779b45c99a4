"""A service says what it needs, and what is wrong, before it starts."""

from __future__ import annotations

import json
import sys

import pytest
import structlog
from flask import Flask

import data_owner.config
import model_buyer.config
from commons import configuration
from commons.http import application
from commons.http.server import Server, main


def never(_: configuration.Config) -> Flask:
    raise AssertionError("the service started")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, config: type[configuration.Config], **env: str) -> str:
    """Run a service's command line and return what it ends with."""
    monkeypatch.setattr(sys, "argv", ["model_buyer", *arguments])
    for name in [name for name in configuration.os.environ if name.startswith("DELTAML_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(f"DELTAML_{name}", value)
    with pytest.raises(SystemExit) as end:
        main("model_buyer", never, config, 9090)
    return str(end.value.code)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "DELTAML_ARBITER_ADDRESS: is missing"),
        ({"ARBITER_ADDRESS": "0x12"}, "DELTAML_ARBITER_ADDRESS: must be an Ethereum address"),
        ({"ARBITER_ADDRESS": "0x" + "12" * 20}, "set DELTAML_ACCOUNT_KEYSTORE and DELTAML_ACCOUNT_PASSWORD_FILE, or"),
        ({"COLOUR": "red"}, "DELTAML_COLOUR: is not known here"),
        (
            {"ARBITER_ADDRESS": "0x" + "12" * 20, "ACCOUNT_PRIVATE_KEY": "0x1b", "CONTRACT_ADDRESS": "0x" + "12" * 20},
            "the Ethereum account cannot be unlocked",
        ),
    ],
)
def test_service_that_is_configured_wrongly_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], words: str
) -> None:
    text = run(monkeypatch, config=model_buyer.config.Config, **env)
    assert text.startswith("model_buyer: ") and words in text
    assert "0x1b" not in text


def test_help_names_every_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help", config=data_owner.config.Config) == "0"
    text = capsys.readouterr().out
    for field in data_owner.config.Config.model_fields:
        assert f"DELTAML_{field.upper()}\n" in text


def test_one_worker_serves_with_threads_and_without_a_control_socket() -> None:
    settings = Server(lambda: Flask(__name__), lambda app: None, "127.0.0.1", 5000).cfg.settings
    assert settings["bind"].get() == ["127.0.0.1:5000"]
    assert settings["workers"].get() == 1
    assert settings["threads"].get() > 1
    assert settings["control_socket_disable"].get() is True


def test_log_is_json_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        application.configure_logging("INFO")
        try:
            secret = "private key"
            raise ValueError(f"{len(secret)} characters")
        except ValueError:
            structlog.get_logger().exception("step failed", training="7")
        structlog.get_logger().debug("not of interest")
    finally:
        structlog.configure(**before)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["training"]) == ("step failed", "error", "7")
    assert "ValueError: 11 characters" in entry["exception"]
    assert "private key" not in entry["exception"].replace('secret = "private key"', "")
