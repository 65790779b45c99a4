"""The server process of a service: gunicorn with threads, and the service's driver beside them."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask
from gunicorn.app.base import BaseApplication

from commons import configuration
from commons.errors import ConfigurationError
from commons.http import application
from commons.pages import streams

THREADS = 16 + streams.MOST
"""Those that compute, and one for each event stream, which waits."""

SWITCH_INTERVAL_S = 0.0005
"""After how long a thread that computes lets another one run."""

AnyConfig = TypeVar("AnyConfig", bound=configuration.Config)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """A service behind gunicorn, in one worker process.

    One process, since the driver that advances trainings lives in it; threads serve the requests.

    Parameters
    ----------
    create : callable
        Makes the Flask application, in the worker.
    start : callable
        Starts what runs beside it, given the application, once the worker is up.
    host, port
        Where to listen.
    """

    def __init__(self, create: Callable[[], Flask], start: Callable[[Flask], None], host: str, port: int) -> None:
        self._create = create
        self._start = start
        self._bind = f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn needs to know."""

        def post_worker_init(worker: Any) -> None:
            self._start(worker.app.wsgi())

        for key, value in {
            "bind": self._bind,
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": 75,
            "graceful_timeout": 5,
            "timeout": 120,
            "control_socket_disable": True,  # two services on one host would fight for one socket
            "post_worker_init": post_worker_init,
            "worker_tmp_dir": None,
            "loglevel": "warning",
        }.items():
            self.cfg.set(key, value)

    def load(self) -> Flask:
        """Return the application."""
        app = self._create()
        gc.freeze()  # what is there now stays: looking for garbage in it takes a tenth of a second every time
        return app


def main(
    service: str, create_app: Callable[[AnyConfig], Flask], config_type: type[AnyConfig], default_port: int
) -> None:
    """Run a service from the command line and the environment.

    Parameters
    ----------
    service : str
        Its name, and that of its directory under ``data/`` unless ``DELTAML_DATA_DIR`` says otherwise.
    create_app : callable
        Makes its application.
    config_type : type
        Its configuration.
    default_port : int
        Where it listens unless told otherwise.
    """
    variables = "\n".join(f"  {configuration.PREFIX}{name.upper()}" for name in config_type.model_fields)
    parser = argparse.ArgumentParser(
        prog=f"python -m {service}",
        description=f"Run DeltaML's {service.replace('_', ' ')}.",
        epilog=f"environment variables (docs/operations.md explains them):\n{variables}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=default_port, help="port to listen on (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        config = configuration.read(
            config_type,
            data_dir=Path("data") / service,
            public_url=f"http://127.0.0.1:{arguments.port}",
        )
        config.account()
    except ConfigurationError as error:
        sys.exit(f"{service}: {error}")
    os.umask(0o077)  # what the service writes is its own
    # A round's question beside an evaluation's proof would wait Python's 5 ms after every read and every commit.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    application.configure_logging(config.log_level)
    Server(lambda: create_app(config), _start_driver, arguments.host, arguments.port).run()


def _start_driver(app: Flask) -> None:
    app.extensions["driver"].start()
