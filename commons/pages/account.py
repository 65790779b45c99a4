"""The page of a service's account: what it has on the chain, and what the contract owes it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, Response, render_template, url_for
from flask.typing import ResponseReturnValue

from commons.errors import PeerUnavailable
from commons.http.contract import ContractAccount
from commons.pages.forms import Form
from commons.pages.site import Site
from commons.protocol.messages import Body


def blueprint(site: Site, account: ContractAccount, held: Callable[[], int] | None = None) -> Blueprint:
    """Make the routes, as the blueprint ``account``.

    Parameters
    ----------
    site : Site
    account : ContractAccount
    held : callable, optional
        Returns the wei of the account that the contract holds for trainings, where it pays for any.
    """
    routes = Blueprint("account", __name__, template_folder="templates")

    def page(form: Form[Body]) -> tuple[str, HTTPStatus]:
        try:
            found, status = account.show(), HTTPStatus.OK
        except PeerUnavailable:
            found, status = None, HTTPStatus.SERVICE_UNAVAILABLE
        return render_template("account.html", account=found, held=held and held(), form=form), status

    @routes.get("/account")
    def show() -> ResponseReturnValue:
        return page(Form(Body, ()))

    @routes.post("/account/withdraw")
    def withdraw() -> ResponseReturnValue:
        form = Form(Body, ())

        def act() -> Response:
            account.withdraw()
            return site.go(url_for("account.show"), "withdrawn")

        return site.submit(form, act, lambda: page(form)[0])

    return routes
