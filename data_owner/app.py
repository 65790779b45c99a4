"""Composition root of the data owner: everything is made here and handed to what needs it."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from flask import Flask

from commons.chain.connection import Connection
from commons.database import Database
from commons.driver import Driver
from commons.errors import Conflict
from commons.http import application, contract, refusal_signing
from commons.http.nonces import Nonces
from commons.http.peer import Peers
from commons.http.request_signing import RequestVerifier
from commons.http.signatures import Signatures
from commons.journal import Journal
from commons.lookout import Lookout
from commons.pages import account as account_page
from commons.pages import site
from commons.pages.streams import Streams
from commons.users import api as users_api
from commons.users.accounts import Accounts
from data_owner import pages
from data_owner.answering import Answering
from data_owner.api import datasets, models, registration, trainings
from data_owner.config import Config
from data_owner.participation import Participation
from data_owner.reviewing import Reviewing
from data_owner.storage import Status, Storage

MIGRATIONS = Path(__file__).parent / "migrations"


def create_app(config: Config, *, answering: type[Answering] = Answering) -> Flask:
    """Make the data owner's application.

    The driver that follows its trainings is at ``app.extensions["driver"]``, not started yet.

    Parameters
    ----------
    config : Config
    answering : type
        How it answers the aggregator: what an owner that cheats would do otherwise.
    """
    config.prepare()
    scratch = config.data_dir / "scratch"
    scratch.mkdir(exist_ok=True)
    for left in scratch.iterdir():  # by an upload that a crash cut short: rows, which are kept nowhere
        shutil.rmtree(left)
    database = Database(config.database)
    database.migrate(MIGRATIONS)
    chain = Connection(config)
    storage = Storage(database)
    lifetime = timedelta(hours=config.token_hours)
    accounts = Accounts(database, config.public_url, lambda: chain.marketplace().chain_id, lifetime)
    journal = Journal(database)
    reviewing = Reviewing(storage, journal, chain)
    participation = Participation(storage, chain, Peers(chain), reviewing)
    answers = answering(storage, journal, chain)
    requests = RequestVerifier(config.public_url, Nonces(database))

    def advance(training_id: uuid.UUID) -> None:
        training = participation.follow(training_id)
        if training.status == Status.IN_PROGRESS:
            with suppress(Conflict):  # it is reported already: there is nothing more to answer
                answers.prepare(training.id)
        elif training.status in (Status.FINISHED, Status.FAILED):
            answers.release(training.id)

    driver = Driver(participation.unfinished, advance)
    app = application.create(__name__, "DeltaML data owner")
    refusal_signing.register(app, chain.account)
    app.register_blueprint(application.health("data_owner", "/helpers/ping"))
    account = contract.ContractAccount(chain)
    app.register_blueprint(contract.blueprint(account))
    app.register_blueprint(users_api.blueprint(accounts, config.registration, chain.address))
    registering = registration.Registering(accounts.users, storage, participation, config, chain.address)
    tables = datasets.Datasets(storage, scratch, config.max_upload_mb * 2**20)
    offers = models.Requests(storage, participation)
    app.register_blueprint(registration.blueprint(registering))
    app.register_blueprint(datasets.blueprint(tables))
    app.register_blueprint(models.blueprint(offers))
    app.register_blueprint(
        trainings.blueprint(storage, participation, answers, reviewing, Signatures(chain), driver.nudge, requests)
    )
    frame = site.Site("owner", accounts, config.registration)
    frame.register(app)
    streams = Streams(storage.changes, accounts.access.still)
    balance: Lookout[None, contract.Contract] = Lookout(lambda _: account.show(), fresh_s=0)
    app.register_blueprint(pages.blueprint(frame, accounts.access, offers, tables, registering, balance, streams))
    app.register_blueprint(account_page.blueprint(frame, account))
    # Services sign what they send to the routes of trainings.
    accounts.access.protect(
        app,
        anyone=application.FOR_ANYONE | users_api.FOR_ANYONE | site.FOR_ANYONE | {"trainings"},
        users=site.FOR_USERS | {"users"},
        pages={"site", "pages", "account"},
    )
    app.extensions["driver"] = driver
    return app
