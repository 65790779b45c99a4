"""The services on PostgreSQL: a real server, which the tests start and throw away."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import text

from commons.chain.marketplace import Marketplace
from commons.database import Database
from commons.errors import Conflict
from commons.journal import Journal
from commons.users.storage import Users
from model_buyer.storage import Model, Status, Storage
from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports
from scripts.local.processes import Supervisor
from tests.integration.conftest import QUICK, ROWS
from tests.transcripts import expect_audited
from tests.unit.counting import PROCESSES, THREADS, TIMES, count_in_parallel
from tests.unit.schemas import SCHEMAS

OWNERS = 3


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that listens on a Unix socket in its directory."""

    directory: Path

    def url(self, name: str) -> str:
        return f"postgresql://deltaml@/{name}?host={quote(str(self.directory))}"

    def create(self, prefix: str) -> str:
        """Create an empty database and return its URL."""
        name = f"{prefix}_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


def programs() -> Path:
    """Return the directory of the server's programs, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    directories = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not directories:
        pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
    return directories[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    binaries = programs()
    become: list[str] = []
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name, Supervisor() as supervisor:
        directory = Path(name)
        if os.geteuid() == 0:  # the server refuses to run as root
            try:
                account = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres to run it as")
            os.chown(directory, account.pw_uid, account.pw_gid)
            become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = str(directory / "data")
        initialise = [*become, str(binaries / "initdb"), "--username=deltaml", "--auth=trust", "--no-sync", data]
        subprocess.run(initialise, cwd=directory, check=True, capture_output=True)
        options = ["-D", data, "-k", name, "-c", "listen_addresses=", "-c", "max_connections=200", "-F"]
        argv = [*become, str(binaries / "postgres"), *options]
        supervisor.start("postgresql", argv, {"LC_ALL": "C", "PATH": os.environ["PATH"]}, directory / "log")
        started = Server(directory)
        _wait_until_it_answers(started, supervisor)
        yield started
        supervisor.signal("postgresql", signal.SIGINT)  # at once, whoever is connected


def _wait_until_it_answers(server: Server, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + 30
    while True:
        supervisor.require_running("postgresql")
        try:
            psycopg.connect(server.url("postgres")).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("service", SCHEMAS)
def test_migrations_make_the_tables_of_the_code(service: str, server: Server) -> None:
    with closing(Database(server.create("migrations"))) as on:
        on.migrate(SCHEMAS[service].migrations)
        on.migrate(SCHEMAS[service].migrations)
        assert SCHEMAS[service].differences(on) == []


def test_read_modify_writes_of_threads_and_processes_lose_nothing(server: Server) -> None:
    assert count_in_parallel(server.create("counting")) == PROCESSES * THREADS * TIMES


def test_values_read_back_as_they_were_written(server: Server) -> None:
    with closing(Database(server.create("values"))) as on:
        on.migrate(SCHEMAS["model_buyer"].migrations)
        user, moment = Users(on).add("Ada", "ada@example.org"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        order = {"name": "größe", "order": b"\0\xff", "sealed_key": bytes(range(256)), "terms": {"x": [1, None, 0.5]}}
        written = Model(
            id=uuid.uuid4(), user_id=user.id, status=Status.PAYING, payment=10**45 + 1, created=moment, **order
        )
        storage = Storage(on)
        storage.add(written)
        storage.add_metric(written.id, 5, 10**22)
        read = storage.model(written.id)
        assert {name: getattr(read, name) for name in order} == order
        assert (read.payment, read.created, read.spent) == (10**45 + 1, moment, 0)
        assert [metric.mse for metric in storage.metrics(written.id)] == [10**22]
        with pytest.raises(Conflict, match="cannot become FINISHED"):
            storage.move(written.id, Status.FINISHED)
        with pytest.raises(Conflict, match="there is a user with the e-mail address"):
            Users(on).add("Eve", "ada@example.org")
        with pytest.raises(Conflict, match="has ordered models"):
            Users(on).delete(user.id)


def test_question_that_comes_twice_at_once_gets_one_answer(server: Server) -> None:
    with closing(Database(server.create("journal"))) as on:
        on.migrate(SCHEMAS["model_buyer"].migrations)
        journal, training = Journal(on), uuid.uuid4()
        together = threading.Barrier(2)
        answers: list[bytes] = []

        def ask(name: bytes) -> None:
            def answer() -> bytes:
                together.wait(10)
                return name

            answers.append(journal.once(training, "refresh", 0, b"question", answer))

        threads = [threading.Thread(target=ask, args=(name,)) for name in (b"one", b"other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 1 and len(answers) == 2


def test_whole_training_with_every_service_on_postgresql(server: Server, tmp_path: Path) -> None:
    ports = Ports.free(OWNERS)
    urls = {name: server.create(name.replace("-", "_")) for name in ports.by_name() if name != "chain"}
    extra = {name: {"DELTAML_DATABASE_URL": url} for name, url in urls.items()}
    with LocalPlatform(tmp_path, ports, extra) as platform:
        platform.start()
        members = [
            flow.enter(flow.Owner(url), f"owner-{number}", diabetes.to_csv(table))
            for number, (url, table) in enumerate(zip(platform.owner_urls, diabetes.split(OWNERS, ROWS), strict=True))
        ]
        buyer = flow.Buyer(platform.urls["buyer"])
        user_id, _ = buyer.sign_up("buyer")
        participants = {"wanted": OWNERS, "minimum": OWNERS}
        training_id = buyer.order(
            flow.order_for(user_id, diabetes.FEATURES, hyper_parameters=QUICK, participants=participants)
        )
        for member in members:
            member.owner.wait_for_status(training_id, "READY")
            member.owner.accept(training_id)
        model = buyer.wait_finished(training_id)
        assert len(model["model"]["weights"]) == len(diabetes.FEATURES) + 1
        assert model["metrics"]["mse"] < model["metrics"]["initial_mse"]
        chain = Marketplace(platform.urls["chain"], buyer.contract()["address"])
        payments = chain.payments(uuid.UUID(training_id))
        for member in members:
            earned = int(member.owner.wait_for_status(training_id, "FINISHED")["earned"])
            assert earned == sum(payment.wei for payment in payments if payment.recipient == member.address)
        aggregator = flow.Aggregator.entered(platform.urls["aggregator"])
        while aggregator.training(training_id)["status"] == "IN_PROGRESS":
            time.sleep(0.05)  # it sees last that the buyer has settled
        expect_audited(platform, training_id, database_url=urls["aggregator"])
        assert list(tmp_path.rglob("*.db")) == []
    for name, url in urls.items():
        with closing(Database(url)) as on, on.engine.connect() as connection:
            table = "models" if name == "buyer" else "trainings"
            (row,) = connection.execute(text(f"SELECT id, status, created FROM {table}"))
            assert (row.id, row.status) == (uuid.UUID(training_id), "FINISHED")
            assert row.created.utcoffset() is not None
            assert connection.execute(text("SELECT count(*) FROM journal")).scalar_one() > 0
