"""Threads and processes that all count with one number in one database."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from commons import database
from commons.database import Database

PROCESSES, THREADS, TIMES = 2, 3, 15


class Base(database.Base):
    __abstract__ = True
    metadata = MetaData()


class Counter(Base):
    __tablename__ = "counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


def count_in_parallel(url: str) -> int:
    """Have threads of several processes read a number and write the next one; return the last."""
    on = Database(url)
    try:
        Base.metadata.create_all(on.engine)
        with on.write() as session:
            session.add(Counter(id=1, value=0))
        spawn = multiprocessing.get_context("spawn")
        children = [spawn.Process(target=count, args=(url,)) for _ in range(PROCESSES)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        with on.read() as session:
            return session.get_one(Counter, 1).value
    finally:
        on.close()


def count(url: str) -> None:
    """Read the number and write the next one, several times in several threads."""
    on = Database(url)

    def run() -> None:
        for _ in range(TIMES):
            with on.write() as session:
                session.get_one(Counter, 1).value += 1

    with ThreadPoolExecutor(THREADS) as executor:
        for future in [executor.submit(run) for _ in range(THREADS)]:
            future.result()
    on.close()
