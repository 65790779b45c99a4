"""Composition root of the model buyer: everything is made here and handed to what needs it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

from flask import Flask

from commons.chain.connection import Connection
from commons.chain.record import Records
from commons.database import Database
from commons.driver import Driver
from commons.http import application, contract, refusal_signing, uploads
from commons.http.nonces import Nonces
from commons.http.peer import Peers
from commons.http.request_signing import RequestVerifier
from commons.http.signatures import Signatures
from commons.journal import Journal
from commons.pages import account as account_page
from commons.pages import site
from commons.pages.streams import Streams
from commons.users import api as users_api
from commons.users.accounts import Accounts
from model_buyer import pages
from model_buyer.answering import Answering
from model_buyer.api import models, trainings
from model_buyer.api import predictions as predictions_api
from model_buyer.api import records as records_api
from model_buyer.config import Config
from model_buyer.ordering import Ordering
from model_buyer.predictions import Predictions
from model_buyer.reviewing import Reviewing
from model_buyer.settlement import Settlement
from model_buyer.storage import Status, Storage
from model_buyer.vault import Vault
from model_buyer.verification import Verification

MIGRATIONS = Path(__file__).parent / "migrations"


def create_app(
    config: Config,
    *,
    answering: type[Answering] = Answering,
    settlement: type[Settlement] = Settlement,
    reviewing: type[Reviewing] = Reviewing,
) -> Flask:
    """Make the model buyer's application.

    The driver that follows its orders is at ``app.extensions["driver"]``, not started yet.

    Parameters
    ----------
    config : Config
    answering, settlement, reviewing : type
        How it answers the aggregator, what it makes of the end of a training, and how it judges results: what a
        buyer that cheats would do otherwise.
    """
    config.prepare()
    database = Database(config.database)
    database.migrate(MIGRATIONS)
    chain = Connection(config)
    storage = Storage(database)
    lifetime = timedelta(hours=config.token_hours)
    accounts = Accounts(database, config.public_url, lambda: chain.marketplace().chain_id, lifetime)
    vault = Vault(config.data_dir / "secret.key")
    journal = Journal(database)
    ordering = Ordering(
        storage, vault, chain, Peers(chain), config.aggregator_url, config.public_url, config.arbiter_address
    )
    answers = answering(storage, vault, journal, chain)
    ending = settlement(storage, journal, answers, chain)
    review = reviewing(storage, journal, ending, chain)
    requests = RequestVerifier(config.public_url, Nonces(database))
    files, limit_bytes = config.data_dir / "files", config.max_upload_mb * 2**20
    files.mkdir(exist_ok=True, mode=0o700)
    predictions = Predictions(database, files, uploads.most_values(limit_bytes))

    def advance(model_id: uuid.UUID) -> None:
        model = ordering.follow(model_id)
        if model.status == Status.IN_PROGRESS:
            review.review(model)
            model = ordering.follow(model_id)
        if model.status in (Status.FINISHED, Status.FAILED, Status.CANCELLED):
            answers.release(model_id)

    driver = Driver(ordering.unfinished, advance)
    app = application.create(__name__, "DeltaML model buyer")
    refusal_signing.register(app, chain.account)
    app.register_blueprint(application.health("model_buyer", "/helpers/ping"))
    account = contract.ContractAccount(chain)
    app.register_blueprint(contract.blueprint(account, ordering.moving))
    app.register_blueprint(users_api.blueprint(accounts, config.registration, chain.address))
    orders = models.Orders(storage, predictions, accounts.access, ordering)
    own = predictions_api.OwnPredictions(storage, predictions, accounts.access, limit_bytes)
    app.register_blueprint(models.blueprint(orders))
    records = Records(chain)
    app.register_blueprint(records_api.blueprint(orders, records))
    app.register_blueprint(predictions_api.blueprint(own))
    app.register_blueprint(
        trainings.blueprint(storage, Signatures(chain), answers, ending, review, driver.nudge, requests)
    )
    frame = site.Site("buyer", accounts, config.registration)
    frame.register(app)
    verification = Verification(records, journal, chain.address)
    streams = Streams(storage.changes, accounts.access.still)
    app.register_blueprint(
        pages.blueprint(frame, accounts.access, orders, own, verification, config.aggregator_url, streams)
    )
    app.register_blueprint(account_page.blueprint(frame, account, storage.escrow))
    # Services sign what they send to the routes of trainings.
    accounts.access.protect(
        app,
        anyone=application.FOR_ANYONE | users_api.FOR_ANYONE | site.FOR_ANYONE | {"trainings"},
        users=site.FOR_USERS | pages.FOR_USERS | {"users", "predictions"},
        pages={"site", "pages", "account"},
    )
    app.extensions["driver"] = driver
    return app
