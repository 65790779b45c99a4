"""Signed messages over HTTP: the body is the message, a header has the signature of who sent it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Generic, TypeVar

from flask import Response, request

from commons.chain.connection import Connection
from commons.crypto.signatures import SIGNATURE_BYTES, InvalidSignature
from commons.errors import InvalidInput, NotAuthenticated, NotAuthorised
from commons.http import bodies
from commons.protocol.messages import Acknowledgement, Message, TrainingMessage
from commons.protocol.signed import Signed

SIGNATURE_HEADER = "DeltaML-Signature"

_FORM = re.compile(f"0x[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")

Content = TypeVar("Content", bound=Message)
AboutTraining = TypeVar("AboutTraining", bound=TrainingMessage)


@dataclass(frozen=True)
class Question(Generic[Content]):
    """A message that came in: decoded, as it was signed, and who signed it."""

    content: Content
    signed: Signed
    sender: str


class Signatures:
    """Reads signed requests and signs answers.

    Parameters
    ----------
    chain : Connection
        Has the account that signs, and says on which contract of which chain signatures count.
    """

    def __init__(self, chain: Connection) -> None:
        self._chain = chain

    def read(self, model: type[Content]) -> Question[Content]:
        """Decode the body of the current request, and find out who signed it.

        Raises
        ------
        NotAuthenticated
            It has no signature, or one that is none.
        BadRequest, UnsupportedMediaType, pydantic.ValidationError
            As :func:`commons.http.bodies.read`.
        """
        content = bodies.read(model)
        signed = Signed(content=content.pack(), signature=decode_signature(request.headers.get(SIGNATURE_HEADER)))
        try:
            sender = signed.sender(model, self._chain.signer().domain)
        except InvalidSignature as error:
            raise NotAuthenticated(str(error)) from None
        return Question(content, signed, sender)

    def read_from(self, sender: str, model: type[AboutTraining], training_id: uuid.UUID) -> Question[AboutTraining]:
        """Decode the body of a request about the training that its path names, signed by `sender`.

        Raises
        ------
        NotAuthorised
            Somebody else signed it.
        InvalidInput
            The body names another training than the path.
        NotAuthenticated, BadRequest, UnsupportedMediaType, pydantic.ValidationError
            As :meth:`read`.
        """
        question = self.read(model)
        require_about(question.content, training_id)
        require_sender(question, sender)
        return question

    def sign(self, content: Message, question: Signed) -> Signed:
        """Sign an answer to a question as this service."""
        return self._chain.signer().sign(content, question)

    def acknowledge(self, question: Question[Content]) -> Response:
        """Answer that the message was taken note of."""
        return answer(self.sign(Acknowledgement(), question.signed))


def require_about(content: TrainingMessage, training_id: uuid.UUID) -> None:
    """Raise InvalidInput unless a message is about the training that the path names."""
    if content.training != training_id:
        raise InvalidInput(f"the path names {training_id}, the body {content.training}", "training")


def require_sender(question: Question[Content], sender: str) -> None:
    """Raise NotAuthorised unless `sender` signed a message."""
    if question.sender.lower() != sender.lower():
        kind = type(question.content).__name__
        raise NotAuthorised(f"signed by {question.sender}: this {kind} is for {sender} to send")


def answer(signed: Signed) -> Response:
    """Answer a service with a signed message."""
    response = bodies.message(signed.content)
    response.headers[SIGNATURE_HEADER] = encode_signature(signed.signature)
    return response


def encode_signature(signature: bytes) -> str:
    """Return a signature as the header has it."""
    return f"0x{signature.hex()}"


def decode_signature(header: str | None) -> bytes:
    """Return the signature that the header has; NotAuthenticated if it has none."""
    if header is None:
        raise NotAuthenticated(f"sign the message with your Ethereum account, in the header {SIGNATURE_HEADER}")
    if not _FORM.fullmatch(header):
        raise NotAuthenticated(f"{SIGNATURE_HEADER} must be 0x and {2 * SIGNATURE_BYTES} hexadecimal digits")
    return bytes.fromhex(header[2:])
