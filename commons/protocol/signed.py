"""Messages with the signature of who said them: what a transcript is made of.

The account signs a short text that names everything the message must not be taken out of: the protocol's version, the
chain and the contract, the kind of message, the question that it answers, and the SHA-256 of its canonical encoding
(:meth:`commons.protocol.messages.Record.pack`). Which training it is about is in the content.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TypeVar

from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from commons.crypto import signatures
from commons.crypto.signatures import InvalidSignature
from commons.errors import InvalidInput, VerificationFailed
from commons.protocol.messages import PROTOCOL_VERSION, Message, Record, canonical_json

AnyMessage = TypeVar("AnyMessage", bound=Message)


@dataclass(frozen=True)
class Domain:
    """Where signatures count: one contract on one chain.

    Parameters
    ----------
    chain_id : int
    contract : str
        The marketplace's address.
    """

    chain_id: int
    contract: str


class Signed(Record):
    """A message as it was signed: its canonical bytes, and 65 bytes of signature."""

    content: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content: what an answer to it refers to."""
        return hashlib.sha256(self.content).digest()

    def read(self, model: type[AnyMessage]) -> AnyMessage:
        """Decode the content, without looking at the signature.

        Raises
        ------
        VerificationFailed
            It is no such message, or not in its one canonical encoding.
        """
        try:
            content = model.unpack(self.content)
        except (ValidationError, InvalidInput) as error:
            raise VerificationFailed(f"what was signed is no {model.__name__}: {error}") from None
        if content.pack() != self.content:
            raise VerificationFailed(f"what was signed is a {model.__name__}, but not in its canonical encoding")
        return content

    def sender(self, model: type[Message], domain: Domain, question: Signed | None = None) -> str:
        """Return the address of the account that signed this as that kind of message, answering that question."""
        return signatures.recover(_statement(domain, model, self.content, question), self.signature)

    def verified(
        self, model: type[AnyMessage], domain: Domain, sender: str, question: Signed | None = None
    ) -> AnyMessage:
        """Decode the content after checking the signature.

        Parameters
        ----------
        model : type
            The kind of message that it has to be.
        domain : Domain
            Where it has to count.
        sender : str
            Address of who has to have signed it.
        question : Signed, optional
            What it has to be the answer to.

        Raises
        ------
        InvalidSignature
            Somebody else signed it, or it was signed as something else.
        VerificationFailed
            It is no such message.
        """
        found = self.sender(model, domain, question)
        if found.lower() != sender.lower():
            raise InvalidSignature(f"a {model.__name__} of {sender} was claimed, and its signature gives {found}")
        return self.read(model)


@dataclass(frozen=True)
class Signer:
    """An account that signs messages.

    Parameters
    ----------
    account : LocalAccount
    domain : Domain
        Where its signatures count.
    """

    account: LocalAccount
    domain: Domain

    @property
    def address(self) -> str:
        """The account's address."""
        return str(self.account.address)

    def sign(self, message: Message, question: Signed | None = None) -> Signed:
        """Sign a message, as the answer to `question` if there is one."""
        content = message.pack()
        statement = _statement(self.domain, type(message), content, question)
        return Signed(content=content, signature=signatures.sign(statement, self.account))


def proof_context(domain: Domain, training: uuid.UUID, kind: str, round_: int, prover: str) -> bytes:
    """Return what a proof's challenge is bound to besides its public inputs, so that it counts nowhere else."""
    return canonical_json(
        {
            "protocol": PROTOCOL_VERSION,
            "chain": domain.chain_id,
            "contract": domain.contract.lower(),
            "training": str(training),
            "kind": kind,
            "round": round_,
            "prover": prover.lower(),
        }
    )


def _statement(domain: Domain, model: type[Message], content: bytes, question: Signed | None) -> bytes:
    lines = (
        f"DeltaML {PROTOCOL_VERSION}",
        f"chain {domain.chain_id}",
        f"contract {domain.contract.lower()}",
        f"message {model.__name__}",
        f"answers {'nothing' if question is None else question.digest.hex()}",
        f"content {hashlib.sha256(content).hexdigest()}",
    )
    return "\n".join(lines).encode()
