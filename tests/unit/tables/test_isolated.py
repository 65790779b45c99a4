"""Files are decoded in a process that may crash, with little memory and nothing secret in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.errors import InvalidInput
from commons.protocol.messages import LARGEST_VALUE
from commons.tables import isolated
from tests.unit.tables.tables import write_csv, write_parquet

MOST_VALUES = 2**29


def read(path: Path) -> np.ndarray:
    with isolated.opened(path, MOST_VALUES) as table:
        return np.concatenate(list(table.blocks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def bomb(folder: Path) -> Path:
    """Return a file of a quarter of a megabyte that is 1 GB of numbers, in one row group."""
    path = folder / "bomb.parquet"
    column = pl.repeat(1.0, 2**24, eager=True)
    table = pl.DataFrame({f"x{index}": column for index in range(8)})
    table.write_parquet(path, row_group_size=2**24)
    assert path.stat().st_size < 2**20 and table.estimated_size() >= 2**30
    return path


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_rows_come_through_unchanged(folder: Path, write: Callable[..., Path]) -> None:
    table = np.random.default_rng(1).normal(size=(60_000, 20))
    path = write(table, [f"x{index}" for index in range(20)], folder / "table")
    with isolated.opened(path, MOST_VALUES) as found:
        assert found.columns == tuple(f"x{index}" for index in range(20))
        np.testing.assert_array_equal(np.concatenate(list(found.blocks)), table)


def test_fault_is_told_as_the_decoder_tells_it(folder: Path) -> None:
    path = folder / "bad.csv"
    path.write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(InvalidInput, match="file: line 3, column 'b': 'x' is no number") as caught:
        read(path)
    assert caught.value.field == "file"


def test_file_that_crashes_the_decoder_is_refused(folder: Path) -> None:
    path = write_parquet(np.ones((50, 2)), ["a", "b"], folder / "crash.parquet")
    content = bytearray(path.read_bytes())
    content[133] = 109  # polars 2.1 aborts its process over it
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="damaged"):
        read(path)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_damaged_parquet_is_refused_or_read(folder: Path, data: st.DataObject) -> None:
    path = folder / "damaged.parquet"
    content = bytearray(write_parquet(np.ones((50, 2)), ["a", "b"], path).read_bytes())
    for place in data.draw(st.lists(st.integers(4, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 4]))])
    try:
        table = read(path)
    except InvalidInput as error:
        assert error.field == "file"
    else:
        assert (np.abs(table) <= LARGEST_VALUE).all()


def decoder(own: psutil.Process) -> psutil.Process:
    """Return the process that reads, among those that other tests have started."""
    (child,) = (each for each in own.children() if isolated.__name__ in " ".join(each.cmdline()))
    return child


def test_memory_stays_bounded_whatever_a_small_file_decompresses_to(bomb: Path) -> None:
    own = psutil.Process()
    rows, before, own_bytes, decoder_bytes = 0, own.memory_info().rss, 0, 0
    with isolated.opened(bomb, MOST_VALUES) as table:
        child = decoder(own)
        for block in table.blocks:
            rows += len(block)
            own_bytes = max(own_bytes, own.memory_info().rss - before)
            decoder_bytes = max(decoder_bytes, child.memory_info().rss)
    assert rows == 2**24
    assert own_bytes < 2**27 and decoder_bytes < 3 * 2**27


def test_bomb_with_more_numbers_than_allowed_is_refused_at_once(bomb: Path) -> None:
    began = time.monotonic()
    with (
        pytest.raises(InvalidInput, match="16777216 rows × 8 columns, more than 8388608 numbers: split it"),
        isolated.opened(bomb, 2**23),
    ):
        pass
    assert time.monotonic() - began < 5


def test_file_that_needs_more_memory_than_there_is_is_refused(folder: Path) -> None:
    path = folder / "line.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,")
        file.seek(2**31)  # a hole: zeros without an end of line
        file.write(b"\n")
    with pytest.raises(InvalidInput, match="file: "):
        read(path)


def test_decoder_has_none_of_the_services_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAML_ACCOUNT_PRIVATE_KEY", "0x" + "12" * 32)
    path = write_csv(np.ones((200_000, 4)), list("abcd"), folder / "long.csv")
    with isolated.opened(path, MOST_VALUES) as table:
        next(table.blocks)
        child = decoder(psutil.Process())
        assert set(child.environ()) == {"POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"}
        assert child.rlimit(psutil.RLIMIT_DATA) == (isolated.MEMORY, isolated.MEMORY)
        assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)


def test_process_ends_with_the_reading(folder: Path) -> None:
    path = write_csv(np.ones((200_000, 4)), list("abcd"), folder / "long.csv")
    files = set(os.listdir("/proc/self/fd"))
    with isolated.opened(path, MOST_VALUES) as table:
        next(table.blocks)
        child = decoder(psutil.Process())
    assert not child.is_running()
    assert set(os.listdir("/proc/self/fd")) == files
