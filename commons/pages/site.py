"""What the pages of all services share: the frame, logging in and out, problems, and what browsers may load."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from flask import Blueprint, Flask, Response, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from pydantic import ValidationError

from commons.errors import DeltaMLError, NotAuthorised, NotLoggedIn
from commons.http.problems import PROBLEM_TYPE, Problem, status_of
from commons.pages import languages
from commons.pages.forms import Form
from commons.pages.languages import Language
from commons.users import api as users_api
from commons.users.accounts import Accounts
from commons.users.api import NewUser, Proof
from commons.users.registration import Registration

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the stylesheet's own icons
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would not say from where a form comes
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Cookie, Accept-Language, Accept",
}
STATIC_MAX_AGE_S = 365 * 24 * 60 * 60
STATIC = Path(__file__).parent / "static"
LANGUAGE_MAX_AGE_S = 365 * 24 * 60 * 60

FOR_ANYONE = frozenset({"site.static", "site.log_in", "site.sign_up"})
"""Endpoints for whoever has not logged in."""
FOR_USERS = frozenset({"site.log_out"})
"""Endpoints for every user."""


class Site:
    """The frame of one service's pages.

    Parameters
    ----------
    service : str
        By which key the catalogue has its texts: ``buyer``.
    accounts : Accounts
        Its users.
    registration : Registration
        Who may sign up.
    """

    def __init__(self, service: str, accounts: Accounts, registration: Registration) -> None:
        self._service = service
        self._accounts = accounts
        self._registration = registration
        self._catalogue = languages.load()
        self._notice = f"{accounts.sessions.cookie}_notice"
        self._versions = {
            path.relative_to(STATIC).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            for path in STATIC.rglob("*.*")
        }
        self._packed = {
            path.relative_to(STATIC).as_posix(): gzip.compress(path.read_bytes(), mtime=0)
            for path in STATIC.rglob("*.*")
        }

    def language(self) -> Language:
        """Return the language of who reads the answer to the current request."""
        if "deltaml_language" not in g:
            g.deltaml_language = languages.wanted(self._catalogue)
        found: Language = g.deltaml_language
        return found

    def go(self, target: str, notice: str | None = None) -> Response:
        """Answer a form with another page.

        Parameters
        ----------
        target : str
            Its path.
        notice : str, optional
            What is said there once: a key of the catalogue's section ``notice``.
        """
        answer = make_response(redirect(target, HTTPStatus.SEE_OTHER))
        if notice is not None:
            self._accounts.sessions.set_cookie(answer, self._notice, notice)
        return answer

    def submit(self, form: Form[Any], act: Callable[[], Response], page: Callable[[], str]) -> ResponseReturnValue:
        """Act on a form, or show it again with what is wrong beside its fields.

        Parameters
        ----------
        form : Form
        act : callable
            Does what the form is for, and raises for what is wrong with it.
        page : callable
            Renders the page that has it.
        """
        try:
            return act()
        except NotLoggedIn:
            raise
        except ValidationError as error:
            form.refuse(error)
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        except DeltaMLError as error:
            form.refuse(error)
            status = status_of(error)
        return page(), status

    def register(self, app: Flask) -> None:
        """Add the shared pages to an application, and have its errors be pages for who reads pages."""
        app.register_blueprint(self._blueprint())
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

        @app.context_processor
        def frame() -> dict[str, Any]:
            try:
                user = self._accounts.access.user_if_any()
            except NotLoggedIn:
                user = None
            notice = f"notice.{request.cookies.get(self._notice)}"
            return {
                "t": self.language(),
                "languages": languages.LANGUAGES,
                "service": self._service,
                "user": user,
                "notice": notice if self.language().has(notice) else None,
                "static": self._static,
                "in_language": _in_language,
            }

        @app.after_request
        def finish(answer: Response) -> Response:
            if answer.mimetype == PROBLEM_TYPE and self._reads_pages():
                answer = self._problem(Problem.model_validate_json(answer.get_data()), answer)
            if request.endpoint == "site.static" and answer.mimetype != "text/html":
                answer.headers["X-Content-Type-Options"] = "nosniff"
                if "v" in request.args:  # another file has another address
                    answer.headers["Cache-Control"] = f"public, max-age={STATIC_MAX_AGE_S}, immutable"
                self._pack(answer)
            elif self._accounts.access.on_page() or (
                answer.mimetype == "text/html" and request.blueprint != "documentation"
            ):
                answer.headers.update(HEADERS)
                if request.cookies.get(self._notice) and answer.status_code != HTTPStatus.SEE_OTHER:
                    self._accounts.sessions.set_cookie(answer, self._notice, "", 0)
            if (code := request.args.get("language")) in languages.LANGUAGES and answer.mimetype == "text/html":
                answer.set_cookie(languages.COOKIE, str(code), max_age=LANGUAGE_MAX_AGE_S, samesite="Lax")
            return answer

    def _pack(self, answer: Response) -> None:
        # Files only: what is packed together with what somebody else may choose can be guessed from its length.
        answer.vary.add("Accept-Encoding")
        packed = self._packed.get((request.view_args or {}).get("filename", ""))
        if packed is not None and answer.status_code == HTTPStatus.OK and request.accept_encodings["gzip"]:
            answer.close()  # the file
            answer.direct_passthrough = False
            answer.set_data(packed)
            answer.headers["Content-Encoding"] = "gzip"
            answer.headers.remove("ETag")  # of the same file as it is

    def _static(self, name: str) -> str:
        return url_for("site.static", filename=name, v=self._versions[name])

    def _reads_pages(self) -> bool:
        if self._accounts.access.on_page():
            return True
        return request.accept_mimetypes.best_match((PROBLEM_TYPE, "application/json", "text/html")) == "text/html"

    def _problem(self, problem: Problem, answer: Response) -> Response:
        page = self._accounts.access.on_page()
        if problem.status == HTTPStatus.UNAUTHORIZED and page and request.endpoint != "site.log_in":
            # What a script asks for is a part of the page that it belongs to, or a stream: nothing to come back to.
            # Nor is what a form is sent to, but the page that has the form.
            asked = request.full_path if request.method == "GET" else request.referrer
            back = re.sub("^https?://[^/]*", "", request.headers.get("HX-Current-URL") or asked or "/")
            login = url_for("site.log_in", next=back.rstrip("?"))
            if "HX-Request" not in request.headers:
                return make_response(redirect(login, HTTPStatus.SEE_OTHER))
            answer = Response(status=HTTPStatus.UNAUTHORIZED)
            answer.headers["HX-Redirect"] = login
            return answer
        html = render_template("problem.html", problem=problem)
        shown = Response(html, status=answer.status, content_type="text/html; charset=utf-8")
        for name in ("Allow", "Retry-After"):
            if name in answer.headers:
                shown.headers[name] = answer.headers[name]
        return shown

    def _blueprint(self) -> Blueprint:
        routes = Blueprint(
            "site", __name__, static_folder=STATIC, static_url_path="/static", template_folder="templates"
        )
        accounts = self._accounts

        @routes.before_request
        def bound() -> None:
            request.max_content_length = users_api.BODY_BYTES

        @routes.route("/login", methods=["GET", "POST"])
        def log_in() -> ResponseReturnValue:
            if request.method == "GET" and accounts.users.page(1, 0)[1] == 0 and self._open():
                return redirect(url_for("site.sign_up"))
            form = Form(Proof, ("email", "password"))
            target = _local(request.values.get("next"))

            def act() -> Response:
                return self._enter(form.read(), target)

            def page(refusal: str | None = None) -> str:
                return render_template("login.html", form=form, next=target, refusal=refusal, open=self._open())

            if request.method == "GET":
                return page()
            form.fill(request.form)
            try:
                return self.submit(form, act, page)
            except NotLoggedIn:
                return page("login.wrong"), HTTPStatus.UNAUTHORIZED

        @routes.route("/sign-up", methods=["GET", "POST"])
        def sign_up() -> ResponseReturnValue:
            accounts.users.require_open(self._registration)
            form = Form(NewUser, ("name", "email", "password"))

            def act() -> Response:
                body = form.read()
                users_api.make_user(accounts, self._registration, body)
                return self._enter(Proof(email=body.email, password=body.password), "/", "signed_up")

            def page() -> str:
                return render_template("sign_up.html", form=form, first=accounts.users.page(1, 0)[1] == 0)

            if request.method == "GET":
                return page()
            form.fill(request.form)
            return self.submit(form, act, page)

        @routes.post("/logout")
        def log_out() -> Response:
            token = accounts.access.token()
            accounts.tokens.revoke(token.user_id, token.id)
            answer = self.go(url_for("site.log_in"), "logged_out")
            accounts.sessions.end(answer)
            return answer

        return routes

    def _enter(self, proof: Proof, target: str, notice: str | None = None) -> Response:
        secret, token = users_api.open_session(self._accounts, proof)
        answer = self.go(target, notice)
        self._accounts.sessions.begin(answer, secret, token.expires)
        return answer

    def _open(self) -> bool:
        try:
            self._accounts.users.require_open(self._registration)
        except NotAuthorised:
            return False
        return True


def _in_language(code: str, here: Markup) -> str:
    # The same page with the query it was asked by; or `here`, the page of a form that was sent to elsewhere.
    path, _, query = here.unescape().partition("?")
    asked = request.args.to_dict() if request.method == "GET" else {}
    return f"{path or quote(_local(request.path))}?{urlencode({**asked, **dict(parse_qsl(query)), 'language': code})}"


def _local(target: str | None) -> str:
    # A path of this service, whatever a link to the login page says: browsers read "//host" and "/\host" as hosts.
    plain = target is not None and target.startswith("/") and target[1:2] not in ("/", "\\") and target.isprintable()
    return target if plain and target is not None else "/"
