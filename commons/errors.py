"""The errors of the domain. None of them knows HTTP: ``commons.http.problems`` maps them to statuses."""

from __future__ import annotations


class DeltaMLError(Exception):
    """Something that a user or a peer can be told about, in one sentence."""


class InvalidInput(DeltaMLError):
    """A value that somebody sent breaks a rule.

    Parameters
    ----------
    reason : str
        What is wrong and what would be right.
    field : str, optional
        Path of the value in the request, such as ``data_requirements.features.range``.
    """

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason if field is None else f"{field}: {reason}")
        self.reason = reason
        self.field = field


class NotFound(DeltaMLError):
    """What was asked for does not exist, or not for whoever asks."""


class Conflict(DeltaMLError):
    """The request is well formed but the state it needs is not there (any more)."""


class Unsupported(DeltaMLError):
    """The request asks for something that this version does not do yet."""


class VerificationFailed(DeltaMLError):
    """A peer's message does not hold what it claims; the text says what was claimed and what was found."""


class NotAuthenticated(DeltaMLError):
    """Nobody says who sent the request; the text says how to."""


class NotLoggedIn(NotAuthenticated):
    """No user's token comes with the request, or none that counts (any more)."""


class NotAuthorised(DeltaMLError):
    """Whoever sent the request may not do this; the text says who may."""


class TooManyRequests(DeltaMLError):
    """Whoever sends this has sent too much of it.

    Parameters
    ----------
    reason : str
        What there is too much of.
    retry_after_s : int
        Seconds after which to try again.
    """

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(f"{reason}: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class PeerUnavailable(DeltaMLError):
    """Another service does not answer, after all retries."""


class PeerRefused(DeltaMLError):
    """Another service answered, with a refusal.

    Parameters
    ----------
    url : str
        What was called.
    status : int
        The HTTP status of the answer.
    detail : str
        The reason that the peer gave.
    """

    def __init__(self, url: str, status: int, detail: str) -> None:
        super().__init__(f"{url} answered {status}: {detail}")
        self.url = url
        self.status = status
        self.detail = detail


class ConfigurationError(DeltaMLError):
    """The service cannot start as it is configured; the text says which setting to change."""
