"""The REST flow of a training as its users go through it, wherever the services are."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from commons.errors import DeltaMLError, PeerRefused, PeerUnavailable

Json = dict[str, Any]

PATIENCE = 30.0
"""Seconds for which a service may be gone (killed and started again) while somebody waits for it."""


class TrainingFailed(DeltaMLError):
    """A training came to another end than FINISHED; the text has the reason that the service gave."""


class Service:
    """What every service offers.

    Every call raises PeerUnavailable when nobody answers, and PeerRefused, with the problem document's
    detail, on an answer that is not a success.

    Parameters
    ----------
    url : str
        Base URL.
    timeout : float
        Seconds that one call may take.
    """

    def __init__(self, url: str, timeout: float = 60) -> None:
        self.url = url
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # the services are where the caller says, not behind a proxy

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Return the JSON that a route answers; `body` is ``json``, ``files`` or ``params`` of requests."""
        url = self.url + path
        try:
            answer = self._session.request(method, url, timeout=self._timeout, **body)
        except requests.RequestException as error:
            raise PeerUnavailable(f"{method} {url}: no answer ({error})") from error
        if not answer.ok:
            raise PeerRefused(url, answer.status_code, _detail(answer))
        return answer.json() if answer.content else None

    @property
    def authorization(self) -> dict[str, str]:
        """The headers that say who is calling: none before logging in."""
        return {name: str(value) for name, value in self._session.headers.items() if name == "Authorization"}

    def contract(self) -> Json:
        """Return the service's chain settings: address, chain_id, account, role, balance_wei, credit_wei."""
        return self._json("GET", "/contract")

    def create_user(self, name: str, email: str, password: str) -> str:
        """Create a user and return its id. Without a token, that is for the first user of a service."""
        return str(self._json("POST", "/users", json={"name": name, "email": email, "password": password})["id"])

    def log_in(self, email: str, password: str) -> None:
        """Have a token sent with every call from now on."""
        token = self._json("POST", "/users/login", json={"email": email, "password": password})["token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def set_address(self, user_id: str, address: str) -> None:
        """Tell the service the user's Ethereum address, which must be the service's own."""
        self.call("POST", f"/users/{user_id}/address", json={"address": address})

    def sign_up(self, name: str) -> tuple[str, str]:
        """Create the service's first user with the service's own account, and log in; return its id and the address."""
        email, password = f"{name}@example.org", secrets.token_urlsafe()
        user_id = self.create_user(name, email, password)
        self.log_in(email, password)
        address = str(self.contract()["account"])
        self.set_address(user_id, address)
        return user_id, address

    def _json(self, method: str, path: str, **body: Any) -> Json:
        answer: Json = self.call(method, path, **body)
        return answer


class Owner(Service):
    """A data owner's service."""

    def register(self, user_id: str) -> None:
        """Register the user at the aggregator and on chain."""
        self.call("POST", f"/users/{user_id}/register")

    def upload_dataset(self, content: bytes, name: str = "rows.csv") -> Json:
        """Upload a file of rows; return its id, name, rows and columns."""
        return self._json("POST", "/datasets", files={"file": (name, content)})

    def trainings(self, status: str | None = None) -> list[Json]:
        """Return the training requests, those of one status if given."""
        listed: list[Json] = self._json("GET", "/models", params={"status": status})["models"]
        return listed

    def training(self, training_id: str) -> Json:
        """Return one training request as the owner sees it."""
        return self._json("GET", f"/models/{training_id}")

    def accept(self, training_id: str) -> None:
        """Take part in a training."""
        self.call("PUT", f"/trainings/{training_id}/accept")

    def wait_for_status(self, training_id: str, status: str, timeout: float = 60) -> Json:
        """Wait until the owner has the training in a status, and return it.

        Raises
        ------
        TrainingFailed
            When it failed instead.
        TimeoutError
            After `timeout` seconds, with the status it is in.
        """

        def look() -> tuple[str, Json]:
            try:
                training = self.training(training_id)
            except PeerRefused as refusal:
                if refusal.status == 404:  # the aggregator's request has not arrived
                    return "unknown", {}
                raise
            return training["status"], training

        return _wait(f"the training at {self.url}", look, status, timeout)


class Buyer(Service):
    """The model buyer's service."""

    def order(self, body: Json) -> str:
        """Order a model and pay for it; return the training's id."""
        return str(self._json("POST", "/models", json=body)["model"]["id"])

    def model(self, training_id: str) -> Json:
        """Return a model with its metrics."""
        return self._json("GET", f"/models/{training_id}")

    def cancel(self, training_id: str) -> Json:
        """Cancel an order that nobody has accepted, and return it."""
        return self._json("DELETE", f"/models/{training_id}")

    def wait_finished(
        self,
        training_id: str,
        on_progress: Callable[[Json], None] = lambda model: None,
        timeout: float = 600,
        interval: float = 0.2,
    ) -> Json:
        """Wait until a model is there.

        Parameters
        ----------
        training_id : str
            The training.
        on_progress : callable
            Called with every answer of GET /models/{id}.
        timeout, interval : float
            Seconds: in all, and between two calls.

        Returns
        -------
        dict
            The last answer, with the weights.

        Raises
        ------
        TrainingFailed
            When the training failed or was cancelled.
        TimeoutError
            With the status that it is still in.
        """

        def look() -> tuple[str, Json]:
            model = self.model(training_id)
            on_progress(model)
            return model["model"]["status"], model

        return _wait(f"the model at {self.url}", look, "FINISHED", timeout, interval)


class Aggregator(Service):
    """The federated aggregator's service."""

    @classmethod
    def entered(cls, url: str) -> Aggregator:
        """Return the service of an aggregator whose operator has signed up."""
        aggregator = cls(url)
        aggregator.sign_up("operator")
        return aggregator

    def data_owners(self) -> list[Json]:
        """Return address and URL of the registered data owners."""
        owners: list[Json] = self._json("GET", "/dataowner")["data_owners"]
        return owners

    def training(self, training_id: str) -> Json:
        """Return a training's status, roles, and seconds and bytes by phase."""
        return self._json("GET", f"/model/{training_id}")

    def contributions(self, training_id: str) -> Json:
        """Return the contributions to a training."""
        return self._json("GET", f"/contributions/{training_id}")


@dataclass(frozen=True)
class Member:
    """A data owner that has signed up, registered, and has rows."""

    owner: Owner
    user_id: str
    address: str


def enter(owner: Owner, name: str, rows: bytes) -> Member:
    """Take a data owner through everything that comes before an order.

    Parameters
    ----------
    owner : Owner
        Its service.
    name : str
        The user's name, and the name of the file of rows.
    rows : bytes
        A CSV file with a header.
    """
    user_id, address = owner.sign_up(name)
    owner.upload_dataset(rows, f"{name}.csv")
    owner.register(user_id)
    return Member(owner, user_id, address)


def order_for(
    user_id: str,
    features: Sequence[str],
    ether: float = 5,
    name: str = "diabetes progression",
    description: Mapping[str, Any] | None = None,
    standardise: bool = False,
    **optional: Mapping[str, Any],
) -> Json:
    """Return the body of an order for a linear regression on the Diabetes data.

    Parameters
    ----------
    user_id : str
        The buyer's user.
    features : sequence of str
        The columns to learn from.
    ether : float
        The payment.
    name : str
        What the model is called.
    description : mapping, optional
        What is said about the features, which every party reads and passes on.
    standardise : bool
        Whether the features are standardised before training.
    **optional
        ``hyper_parameters``, ``participants`` and ``terms``, each with only the fields that differ from the
        defaults.
    """
    return {
        "model_type": "LINEAR_REGRESSION",
        "name": name,
        "user_id": user_id,
        "payments_requirements": {"pay_for_model": {"unit": "ether", "value": ether}},
        "data_requirements": {
            "features": {
                "list": list(features),
                "range": [-2, 2],
                "pre_processing": [{"method": "standard"}] if standardise else [],
                "desc": description or {},
            },
            "target": {"name": "target", "range": [25, 346], "desc": []},
        },
        **optional,
    }


def wait_for_withdrawals(services: Mapping[str, Service], timeout: float = 30) -> None:
    """Wait until every service, by name, has withdrawn what the contract credited it, as each does by itself."""
    deadline = time.monotonic() + timeout
    while owed := [name for name, service in services.items() if int(service.contract()["credit_wei"])]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:.0f} s these have not withdrawn their credit: {', '.join(owed)}")
        time.sleep(0.2)


def _wait(what: str, look: Callable[[], tuple[str, Json]], wanted: str, timeout: float, interval: float = 0.2) -> Json:
    start = answered = time.monotonic()
    status = "unknown"
    while True:
        try:
            status, found = look()
            answered = time.monotonic()
        except PeerUnavailable:
            if time.monotonic() > answered + PATIENCE:
                raise
        else:
            if status == wanted:
                return found
            if status in ("FAILED", "CANCELLED"):
                raise TrainingFailed(f"{what} is {status}: {_reason(found)}")
        if time.monotonic() > start + timeout:
            raise TimeoutError(f"{what} is {status}, not {wanted}, after {timeout:.0f} s")
        time.sleep(interval)


def _reason(found: Json) -> str:
    return str(found.get("model", found).get("reason") or "no reason given")


def _detail(answer: requests.Response) -> str:
    try:
        problem = answer.json()
    except requests.JSONDecodeError:
        return answer.text[:500] or answer.reason
    return str(problem.get("detail") or problem)
