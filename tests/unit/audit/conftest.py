from __future__ import annotations

import pytest

from commons.audit import Report
from commons.audit.onchain import Facts
from tests.unit.audit.chain import facts
from tests.unit.audit.parties import Story, audited


@pytest.fixture(scope="session")
def story() -> Story:
    return Story()


@pytest.fixture(scope="session")
def file(story: Story) -> bytes:
    return story.tell()


@pytest.fixture(scope="session")
def report(file: bytes) -> Report:
    return audited(file)


@pytest.fixture(scope="session")
def honest_facts(story: Story, report: Report) -> Facts:
    return facts(story, report)
