"""The transcripts of a platform's aggregator: read from its journal, whoever would be shown them, and audited."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from uuid import UUID

from commons.audit import audit
from commons.audit.onchain import audit_with_chain
from commons.chain.connection import Connection
from commons.database import Database
from commons.journal import Journal
from commons.protocol import transcript
from commons.protocol.transcript import Transcript
from federated_aggregator.config import Config
from federated_aggregator.transcripts import Transcripts
from scripts.local.platform import LocalPlatform


def saved(platform: LocalPlatform, training_id: str, **settings: Any) -> Transcript:
    """Write a training's transcript file, as the arbiter would get it, and read it.

    ``settings`` are those of the aggregator that differ from the local platform's.
    """
    config = Config(
        data_dir=platform.directory / "aggregator",
        public_url=platform.urls["aggregator"],
        chain_url=platform.urls["chain"],
        contract_address_file=platform.directory / "contract-address",
        account_private_key="0x" + bytes(platform.accounts["aggregator"].key).hex(),
        **settings,
    )
    path = platform.directory / f"{training_id}.transcript"
    with closing(Database(config.database)) as database, path.open("wb") as file:
        file.writelines(Transcripts(Journal(database), Connection(config)).stream(UUID(training_id)))
    with path.open("rb") as file:
        return transcript.read(file)


def expect_audited(platform: LocalPlatform, training_id: str, **settings: Any) -> Transcript:
    """Expect a settled training's transcript to pass the audit, alone and with the chain, and return it."""
    found = saved(platform, training_id, **settings)
    alone = audit(found)
    assert alone.passed, alone.first
    together = audit_with_chain(found, alone, platform.urls["chain"])
    assert together.passed, [check for check in together.checks if not check.passed]
    assert len(together.checks) > len(alone.checks)
    return found
