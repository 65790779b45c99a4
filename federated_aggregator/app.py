"""Composition root of the aggregator: everything is made here and handed to what needs it."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from commons.chain.connection import Connection
from commons.database import Database
from commons.driver import Driver
from commons.http import application
from commons.http.peer import Peers
from commons.http.signatures import Signatures
from commons.journal import Journal
from federated_aggregator.api import aggregator, models
from federated_aggregator.config import Config
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.recorder import Recorder
from federated_aggregator.rounds import Rounds
from federated_aggregator.storage import Storage
from federated_aggregator.training import Training
from federated_aggregator.transcripts import Transcripts

MIGRATIONS = Path(__file__).parent / "migrations"


def create_app(config: Config) -> Flask:
    """Make the aggregator's application.

    The driver that runs its trainings is at ``app.extensions["driver"]``, not started yet.
    """
    config.prepare()
    database = Database(config.database)
    database.migrate(MIGRATIONS)
    chain = Connection(config)
    storage = Storage(database)
    transcripts = Transcripts(Journal(database), chain)
    signatures = Signatures(chain)
    peers = Peers(chain)
    owners, buyer = Owners(peers, config.round_timeout_s), Buyer(peers)
    evaluations = Evaluations(transcripts, peers, owners, buyer)
    recorder = Recorder(storage, evaluations, chain, owners, buyer)
    training = Training(storage, Rounds(transcripts, peers, owners, buyer), evaluations, recorder.report)
    orchestration = Orchestration(storage, transcripts, training, recorder, evaluations, owners, buyer, chain)
    driver = Driver(orchestration.unfinished, orchestration.advance, orchestration.register)
    app = application.create(__name__)
    app.register_blueprint(application.health("federated_aggregator", "/helper/ping"))
    app.register_blueprint(application.contract(chain))
    app.register_blueprint(aggregator.blueprint(storage, chain, signatures))
    app.register_blueprint(models.blueprint(storage, transcripts, orchestration, chain, signatures, driver.nudge))
    app.extensions["driver"] = driver
    return app
