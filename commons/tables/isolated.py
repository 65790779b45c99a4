"""Decoding a file in a process of its own, which has little memory, no secrets, and may crash.

A file can say that it is small and decompress to anything, or find a fault in the decoder: then that process ends, and
not the service with its trainings.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from commons.errors import InvalidInput
from commons.tables.decoding import Block, decode

MEMORY = 3 * 2**29
"""Bytes that the decoding process may reserve: 1.1 GB is what a Parquet row group of 1,000 columns was seen to need."""
CPU_S = 600
LARGEST_FRAME = 2**26
THREADS = 2
"""Of the decoder: more of them hold more memory."""
READY, COLUMNS, BLOCK, REFUSED, END = (bytes([kind]) for kind in range(5))


@dataclass(frozen=True)
class Table:
    """A file that is being read.

    Parameters
    ----------
    columns : tuple of str
        Names of its columns.
    blocks : iterator of ndarray of shape (rows of the block, columns)
        Its rows, to be gone through once. InvalidInput comes out of it where the file has a fault.
    """

    columns: tuple[str, ...]
    blocks: Iterator[Block]


@contextmanager
def opened(path: Path, most_values: int) -> Iterator[Table]:
    """Decode a file as :func:`commons.tables.decoding.decode` does, in another process that ends with the block.

    Raises
    ------
    InvalidInput
        It is no table, or to decode it takes more memory or time than it may.
    """
    receiver, sender = Pipe(duplex=False)
    with receiver:
        with sender:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(sender.fileno()), str(path.absolute()), str(most_values)],
                pass_fds=[sender.fileno()],
                cwd=Path(__file__).parents[2],
                env={"POLARS_MAX_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": "1"},  # and nothing of the service's
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it would quote the file
            )
        try:
            if _receive(receiver) != (READY, b""):
                raise RuntimeError(f"the process that decodes files does not start: {process.wait()}")
            columns = tuple(json.loads(_next(receiver, COLUMNS) or b"[]"))
            yield Table(columns, _blocks(receiver, len(columns)))
        finally:
            process.kill()
            process.wait()


def _receive(receiver: Connection) -> tuple[bytes, bytes]:
    try:
        frame = receiver.recv_bytes(LARGEST_FRAME)
    except EOFError:
        return b"", b""
    return frame[:1], frame[1:]


def _next(receiver: Connection, expected: bytes) -> bytes | None:
    kind, content = _receive(receiver)
    if kind == REFUSED:
        raise InvalidInput(content.decode(), "file")
    if kind == END:
        return None
    if kind != expected:
        raise InvalidInput(
            f"the file is damaged, or to decode it takes more than {MEMORY >> 20} MB of memory or {CPU_S} s", "file"
        )
    return content


def _blocks(receiver: Connection, width: int) -> Iterator[Block]:
    while (content := _next(receiver, BLOCK)) is not None:
        yield np.frombuffer(content).reshape(-1, width)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def main() -> None:
    """Decode the file that the command line names, and send what is in it through the pipe that it names."""
    descriptor, path, most_values = sys.argv[1:]
    for what, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most)
    with Connection(int(descriptor), readable=False) as sender:
        sender.send_bytes(READY)
        try:
            columns, blocks = decode(Path(path), int(most_values))
            sender.send_bytes(COLUMNS + json.dumps(columns).encode())
            for block in blocks:
                sender.send_bytes(BLOCK + np.ascontiguousarray(block).tobytes())
            sender.send_bytes(END)
        except InvalidInput as error:
            sender.send_bytes(REFUSED + error.reason.encode())


if __name__ == "__main__":
    main()
