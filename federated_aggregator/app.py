"""Composition root of the aggregator: everything is made here and handed to what needs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from flask import Flask

from commons.chain.connection import Connection
from commons.database import Database
from commons.driver import Driver
from commons.http import application, contract, refusal_signing
from commons.http.nonces import Nonces
from commons.http.peer import Peers
from commons.http.request_signing import RequestVerifier
from commons.http.signatures import Signatures
from commons.journal import Journal
from commons.pages import site
from commons.users import api as users_api
from commons.users.accounts import Accounts
from federated_aggregator import pages
from federated_aggregator.answer_times import AnswerTimes
from federated_aggregator.api import aggregator, models
from federated_aggregator.config import Config
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.recorder import Recorder
from federated_aggregator.rounds import Rounds
from federated_aggregator.standardisation import Standardisation
from federated_aggregator.status import Watch
from federated_aggregator.storage import Storage
from federated_aggregator.training import Training
from federated_aggregator.transcripts import Transcripts

MIGRATIONS = Path(__file__).parent / "migrations"


def create_app(
    config: Config,
    owners: type[Owners] = Owners,
    evaluations: type[Evaluations] = Evaluations,
    orchestration: type[Orchestration] = Orchestration,
    transcripts: type[Transcripts] = Transcripts,
) -> Flask:
    """Make the aggregator's application.

    The driver that runs its trainings is at ``app.extensions["driver"]``, not started yet. The classes are those of
    what speaks to others, decides what is reported and shows the transcript: a test of what a cheating aggregator can
    do puts in its own.
    """
    config.prepare()
    database = Database(config.database)
    database.migrate(MIGRATIONS)
    chain = Connection(config)
    storage = Storage(database)
    lifetime = timedelta(hours=config.token_hours)
    accounts = Accounts(database, config.public_url, lambda: chain.marketplace().chain_id, lifetime)
    records = transcripts(Journal(database), chain)
    signatures = Signatures(chain)
    peers = Peers(chain)
    times = AnswerTimes()
    talk = owners(peers, config.round_timeout_s, times)
    buyer = Buyer(peers)
    scoring = evaluations(records, peers, talk, buyer)
    recorder = Recorder(storage, scoring, chain, talk, buyer)
    standardisation = Standardisation(records, peers, talk, buyer)
    training = Training(storage, standardisation, Rounds(records, peers, talk, buyer), scoring, recorder.report)
    lifecycle = orchestration(storage, records, training, recorder, scoring, talk, buyer, chain)
    requests = RequestVerifier(config.public_url, Nonces(database))
    driver = Driver(lifecycle.unfinished, lifecycle.advance, lifecycle.register)
    app = application.create(__name__, "DeltaML federated aggregator")
    refusal_signing.register(app, chain.account)
    app.register_blueprint(application.health("federated_aggregator", "/helper/ping"))
    app.register_blueprint(contract.blueprint(contract.ContractAccount(chain), lifecycle.moving))
    app.register_blueprint(aggregator.blueprint(storage, chain, signatures, requests, accounts.access))
    app.register_blueprint(models.blueprint(storage, records, lifecycle, chain, signatures, requests, driver.nudge))
    app.register_blueprint(users_api.blueprint(accounts, config.registration, chain.address))
    of_services = {f"aggregator.{name}" for name in ("describe", "register", "list_owners")}
    of_services |= {f"models.{name}" for name in ("take_order", "accepted", "transcript")}
    frame = site.Site("aggregator", accounts, config.registration)
    frame.register(app)
    app.register_blueprint(pages.blueprint(Watch(storage, records, chain, times, driver)))
    # Services sign what they send to their routes, which look at signatures themselves.
    anyone = application.FOR_ANYONE | users_api.FOR_ANYONE | site.FOR_ANYONE | of_services
    accounts.access.protect(app, anyone=anyone, users=site.FOR_USERS | {"users"}, pages={"site", "pages"})
    app.extensions["driver"] = driver
    return app
