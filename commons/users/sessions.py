"""Sessions of browsers: a token like any other, in a cookie, which counts on pages only.

A request that another site makes a browser send brings no cookie (``SameSite=Strict``), and what changes something has
to come from a page of this service besides, by what browsers say and scripts cannot: a port is no part of a *site*, so
that for the cookie alone all services of one machine would be the same. No secret is put into forms: it would have to
be kept, or signed, and would protect from nothing else.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from flask import Response, request

from commons.errors import NotAuthorised, NotLoggedIn

LONGEST = 256
"""Characters of a cookie that may be a token."""


class Sessions:
    """The cookie of one service.

    Its name has the port of the service, since a browser sends it to all ports of a host.

    Parameters
    ----------
    public_url : str
        By which browsers call the service. Where it is https, the cookie travels by nothing else.
    """

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        port = parts.port or (443 if self._secure else 80)
        # A browser takes a cookie of this prefix only from https, for this host alone, and for all of its paths.
        self.cookie = f"{'__Host-' if self._secure else ''}deltaml_{port}"

    def begin(self, answer: Response, secret: str, expires: datetime) -> None:
        """Have the browser send a token from now on."""
        self.set_cookie(answer, self.cookie, secret, expires)

    def end(self, answer: Response) -> None:
        """Have the browser forget its token."""
        self.set_cookie(answer, self.cookie, "", 0)

    def set_cookie(self, answer: Response, name: str, value: str, expires: datetime | int | None = None) -> None:
        """Set a cookie that no script reads, and no other site sends; without `expires` until the browser ends."""
        answer.set_cookie(name, value, expires=expires, secure=self._secure, httponly=True, samesite="Strict")

    def secret(self) -> str:
        """Return the token of the current request; NotLoggedIn if it has none."""
        found = request.cookies.get(self.cookie)
        if not found or len(found) > LONGEST:
            raise NotLoggedIn("log in to see this page")
        return found

    def require_own_page(self) -> None:
        """Check that the current request was made by a page of this service.

        Browsers say so in ``Origin``, with every request that may change something, and in ``Sec-Fetch-Site``, where
        the service is called by https or is on the same machine. Who says nothing is no browser with a cookie to lose.

        Raises
        ------
        NotAuthorised
            It was not, or nothing says so.
        """
        origin = request.headers.get("Origin", "")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site != "same-origin" or urlsplit(origin).netloc not in (request.host, self._host):
            raise NotAuthorised(
                f"this was sent from {origin or 'an unknown page'}, not from a page of {request.host}:"
                " open the page here, and send it again"
            )
