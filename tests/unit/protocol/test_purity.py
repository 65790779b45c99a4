"""The packages of the protocol compute and nothing else: no files, no network, no clock, no databases."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import commons

ROOT = Path(commons.__file__).parent
PURE = ("commons.crypto", "commons.learning", "commons.protocol")

STANDARD = {
    "__future__", "base64", "collections", "dataclasses", "enum", "functools", "hashlib", "io", "itertools", "json",
    "math", "re", "secrets", "threading", "typing", "uuid",
}  # fmt: skip
LIBRARIES = {"gmpy2", "numpy"}
ALSO = {
    "commons/crypto/paillier.py": {"phe"},  # the only importer
    "commons/crypto/signatures.py": {"eth_account", "eth_keys", "eth_utils"},
    "commons/protocol/disputes.py": {"pydantic"},
    "commons/protocol/messages.py": {"ormsgpack", "pydantic", "pydantic_core"},
    "commons/protocol/signed.py": {"eth_account", "pydantic"},
    "commons/protocol/transcript.py": {"pydantic"},
}
FORBIDDEN_NAMES = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

FILES = sorted(path for package in PURE for path in (ROOT / package.split(".")[1]).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module


def test_there_is_something_to_check() -> None:
    assert {path.parent.name for path in FILES} == {"crypto", "learning", "protocol"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pure_packages_do_no_input_or_output(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = path.relative_to(ROOT.parent).as_posix()
    for module in imports(tree):
        if module.startswith("commons."):
            assert module.startswith((*PURE, "commons.errors")), f"{own} imports {module}"
        else:
            allowed = STANDARD | LIBRARIES | ALSO.get(own, set())
            assert module.split(".")[0] in allowed, f"{own} imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN_NAMES, f"{own} uses {node.id}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pure_packages_keep_no_state_between_calls(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Global), f"{path.name} has a global statement"
