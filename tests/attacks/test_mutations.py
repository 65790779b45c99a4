"""The list of defences is true: every text that is to be taken out is there once, and every test exists."""

from __future__ import annotations

import ast

import pytest

from tests.attacks.defences import DEFENCES, Defence
from tests.attacks.mutations import BEGIN, DOCUMENT, END, ROOT, table

IDS = [defence.attack for defence in DEFENCES]


@pytest.mark.parametrize("defence", DEFENCES, ids=IDS)
def test_what_is_taken_out_is_there_once(defence: Defence) -> None:
    for edit in defence.edits:
        text = (ROOT / edit.file).read_text()
        assert text.count(edit.old) == 1, f"{edit.file} has {text.count(edit.old)} times: {edit.old}"
        assert edit.applied(text) != text
    assert defence.file in {edit.file for edit in defence.edits}
    assert defence.function.rpartition(".")[2] in (ROOT / defence.file).read_text()


@pytest.mark.parametrize("defence", DEFENCES, ids=IDS)
def test_the_test_is_there(defence: Defence) -> None:
    file, *names = defence.test.partition("[")[0].split("::")
    places: list[ast.AST] = [ast.parse((ROOT / file).read_text())]
    for name in names:
        places = [
            node
            for place in places
            for node in ast.iter_child_nodes(place)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        ]
    assert len(places) == 1, defence.test


def test_the_document_has_the_table_of_this_list() -> None:
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    assert rest.partition(END)[0].strip() == table(DEFENCES), "run python -m tests.attacks.mutations --write"
