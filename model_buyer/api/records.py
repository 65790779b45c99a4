"""Routes of what the chain has on record of trainings, for the users who ordered them."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from commons.chain.record import Records
from commons.http import record
from commons.http.documents import Page
from commons.http.record import RecordDocument
from commons.http.routes import Routes, problems
from model_buyer.api.models import Orders


def blueprint(orders: Orders, records: Records) -> Routes:
    """Make the routes."""
    routes = Routes("records", __name__, "What the chain has on record of trainings", url_prefix="/models")

    @routes.get(
        "/<uuid:model_id>/record",
        responses={HTTPStatus.OK: RecordDocument, **problems(HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def show(model_id: uuid.UUID, query: Page) -> RecordDocument:
        """Show what the chain has on record of a training of one's own: events, and who made them happen."""
        orders.version(model_id)
        return record.document(records, model_id, query)

    return routes
