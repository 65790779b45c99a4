from __future__ import annotations

import pytest

from commons.audit import Report, audit
from commons.audit.onchain import Facts
from commons.crypto.paillier import PrivateKey
from commons.protocol.transcript import Transcript
from tests.unit.audit.chain import facts
from tests.unit.audit.evidence import transcript_of
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


@pytest.fixture(scope="session")
def whole_story() -> Story:
    """A training with a key as long as it has to be, which whoever takes no shorter one can be shown."""
    return Story(iterations=2, features=1, key=PrivateKey.generate(2048))


@pytest.fixture(scope="session")
def whole(whole_story: Story) -> Transcript:
    return transcript_of(whole_story.tell())


@pytest.fixture(scope="session")
def whole_report(whole: Transcript) -> Report:
    return audit(whole)


@pytest.fixture(scope="session")
def whole_facts(whole_story: Story, whole_report: Report) -> Facts:
    return facts(whole_story, whole_report)
