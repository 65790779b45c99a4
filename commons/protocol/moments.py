"""Sums over trainers by which everybody standardises: who vouches for them, and what they say once they are open.

As with scores (:mod:`commons.protocol.totals`), no trainer's answer is ever opened alone: each sees that its own is in
the sum of at least :data:`MINIMUM_TRAINERS`, and signs it; the buyer opens that one sum, and every owner checks the
openings before it uses the numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz

from commons.crypto.paillier import PublicKey
from commons.crypto.proofs import verify_openings
from commons.errors import InvalidInput, VerificationFailed
from commons.learning.standardisation import Scaling, scaling_of
from commons.protocol import wire
from commons.protocol.messages import (
    Moments,
    MomentsCosignQuestion,
    MomentsStatement,
    MomentsTotals,
    Openings,
    Order,
)
from commons.protocol.schedule import require_places
from commons.protocol.signed import Domain, Signed
from commons.protocol.totals import require_cosigned, require_sums

MINIMUM_TRAINERS = 3
"""Moments of fewer trainers are not summed: either of two would know the other's."""


@dataclass(frozen=True)
class Trainers:
    """The trainers of a training, in the contract's order, and what everybody needs to check their moments.

    Parameters
    ----------
    order : Order
    addresses : sequence of str
    rows : sequence of int
        What each has declared on chain.
    buyer : str
        Address of who opens the sums.
    key : PublicKey
    domain : Domain
    """

    order: Order
    addresses: Sequence[str]
    rows: Sequence[int]
    buyer: str
    key: PublicKey
    domain: Domain

    @property
    def count(self) -> int:
        """How many numbers are summed: the rows, and two for every feature."""
        return 2 * self.order.length - 1

    def require_ordered(self) -> None:
        """Raise InvalidInput unless the order standardises."""
        if not self.order.standardises:
            raise InvalidInput("the order has no pre_processing: nobody's moments are asked for", "training")

    def require_sums(self, asked: Signed, cosign: MomentsCosignQuestion) -> None:
        """Check that sums are those of enough trainers' answers to one question. What a trainer does before it signs.

        Parameters
        ----------
        asked : Signed
            The :class:`MomentsQuestion`, as whoever checks it was asked.
        cosign : MomentsCosignQuestion

        Raises
        ------
        InvalidInput
            They are too few.
        InvalidSignature
            An answer is not that trainer's, or answers another question.
        VerificationFailed
            The sums are not those of the answers.
        """
        self._require_places([answer.place for answer in cosign.answers], "answers")
        require_sums(asked, cosign, self.addresses, self.count, self.key, self.domain)

    def require_cosigned(self, totals: MomentsTotals) -> list[mpz]:
        """Return the sums that a buyer is asked to open; raises unless enough trainers signed them.

        Raises
        ------
        InvalidInput
            They are too few.
        InvalidSignature, VerificationFailed
            One of them did not sign these sums.
        """
        self._require_places(totals.trainers, "trainers")
        ciphertexts = self.key.decode(totals.ciphertexts, self.count)
        signed = statement_of_totals(totals).pack()
        require_cosigned(signed, totals.cosignatures, totals.trainers, self.addresses, self.domain, MomentsStatement)
        return ciphertexts

    def scaling(self, totals: Sequence[int], trainers: Sequence[int]) -> Scaling:
        """Return what follows from opened sums of those trainers; VerificationFailed if no rows have such sums."""
        bounds = self.order.data_requirements.features.range
        return scaling_of(totals, sum(self.rows[place] for place in trainers), max(abs(bound) for bound in bounds))

    def opened(self, totals: MomentsTotals, said: Openings) -> Scaling:
        """Return the scaling that follows from what the buyer opened, once that is seen to be in the ciphertexts.

        Raises
        ------
        InvalidOpening
            A ciphertext holds another number.
        VerificationFailed
            No rows have these sums.
        """
        if not len(said.totals) == len(said.randomisers) == self.count:
            raise VerificationFailed(f"{len(said.totals)} sums of {self.count} are opened")
        openings = wire.decode_openings(said.totals, said.randomisers)
        verify_openings(self.key.decode(totals.ciphertexts, self.count), openings, self.key)
        return self.scaling([opening.total for opening in openings], totals.trainers)

    def told(self, moments: Moments) -> Scaling:
        """Return the scaling that an owner is told, once all its evidence is seen to hold.

        Three trainers could sign sums of their own making, and open them: the buyer's signature, which is on one sum in
        a training, says that everybody is told the same, and that nothing else is left to be opened.

        Raises
        ------
        VerificationFailed, InvalidInput
            Its trainers did not sign these sums, or are too few, or the buyer did not open them, or not to this.
        """
        signed = Signed(content=moments.statement, signature=b"").read(MomentsStatement)
        totals = MomentsTotals(
            training=signed.training,
            question=signed.question,
            trainers=signed.trainers,
            ciphertexts=moments.ciphertexts,
            cosignatures=moments.cosignatures,
        )
        if (signed.training, signed.totals) != (moments.training, statement_of_totals(totals).totals):
            raise VerificationFailed("the sums of moments are not those that its trainers signed")
        self.require_cosigned(totals)
        said = Openings(totals=moments.totals, randomisers=moments.randomisers)
        asked = Signed(content=totals.pack(), signature=b"")
        Signed(content=said.pack(), signature=moments.signature).verified(Openings, self.domain, self.buyer, asked)
        return self.opened(totals, said)

    def _require_places(self, places: Sequence[int], field: str) -> None:
        require_places(places, len(self.addresses), field, MINIMUM_TRAINERS)


def statement(question: Signed, cosign: MomentsCosignQuestion) -> MomentsStatement:
    """Return what a trainer signs that is asked to co-sign sums of answers to that question."""
    return MomentsStatement(
        training=cosign.training,
        question=question.digest,
        trainers=tuple(answer.place for answer in cosign.answers),
        totals=hashlib.sha256(cosign.totals).digest(),
    )


def statement_of_totals(totals: MomentsTotals) -> MomentsStatement:
    """Return what the trainers must have signed for the buyer to open these sums."""
    return MomentsStatement(
        training=totals.training,
        question=totals.question,
        trainers=totals.trainers,
        totals=hashlib.sha256(totals.ciphertexts).digest(),
    )


def told(totals: MomentsTotals, opened: Signed) -> Moments:
    """Return what owners are told: the sums that the buyer opened, with the evidence.

    Parameters
    ----------
    totals : MomentsTotals
        What the buyer was asked.
    opened : Signed
        Its answer, the :class:`Openings`.
    """
    said = opened.read(Openings)
    return Moments(
        training=totals.training,
        statement=statement_of_totals(totals).pack(),
        cosignatures=totals.cosignatures,
        ciphertexts=totals.ciphertexts,
        totals=said.totals,
        randomisers=said.randomisers,
        signature=opened.signature,
    )
