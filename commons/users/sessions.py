"""Sessions of browsers: a token like any other, in a cookie, which counts on pages only.

A request that another site makes a browser send brings no cookie (``SameSite=Strict``), and what changes something has
to come from a page of this service besides, by what browsers say and scripts cannot: a port is no part of a *site*, so
that for the cookie alone all services of one machine would be the same. No secret is put into forms: it would have to
be kept, or signed, and would protect from nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from urllib.parse import urlsplit

from flask import Response, request

from commons.errors import NotAuthorised, NotLoggedIn

LONGEST = 256
"""Characters of a cookie that may be a token."""


class Sessions:
    """The cookie of one service.

    Its name has the host and the port of the service, since a browser sends it to all ports of a host, and services in
    containers have the same ports.

    Parameters
    ----------
    public_url : str
        By which browsers call the service. Where it is https, the cookie travels by nothing else.
    """

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._secure = parts.scheme == "https"
        self._schemes = ("https",) if self._secure else ("http", "https")  # a proxy may be called by https
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._name = parts.hostname
        port = parts.port or (443 if self._secure else 80)
        # A browser takes a cookie of this prefix only from https, for this host alone, and for all of its paths.
        place = re.sub("[^a-z0-9.-]", "_", f"{self._name}_{port}")
        self.cookie = f"{'__Host-' if self._secure else ''}deltaml_{place}"

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
        own = {self._origin, *(f"{scheme}://{request.host}" for scheme in self._schemes)}
        if site != "same-origin" or origin not in own:
            raise NotAuthorised(
                f"this was sent from {origin or 'an unknown page'}, not from a page of {request.host}:"
                " open the page here, and send it again"
            )

    def require_fixed_name(self) -> None:
        """Check that the page behind the current request, if one is, was called by a name that stays this service's.

        Whoever owns the name of a page may give it this machine's address after the page was loaded (DNS rebinding):
        browsers take it for a page of this service then, and send its requests from inside a private network. It has
        no cookie, but needs none to become the first user.

        Raises
        ------
        NotAuthorised
            The name is neither an address, nor localhost, nor that of the public URL.
        """
        name = re.sub(":[0-9]+$", "", request.host).strip("[]").lower()
        known = name in (self._name, "localhost") or name.endswith(".localhost") or _is_address(name)
        if "Origin" in request.headers and not known:
            raise NotAuthorised(
                f"this service does not know that {name!r} is a name of it: call it as {self._origin}, or by its"
                " address, or have DELTAML_PUBLIC_URL set to what browsers call it by"
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
