"""What the chain said of a training when it was last looked at: for users, who are not kept waiting for the chain."""

from __future__ import annotations

from typing import Self

from commons.chain.settlement import Prospects, prospects, trainer_part, validator_part
from commons.chain.training import Training
from commons.http.documents import Wei
from commons.protocol.messages import Body


class Seen(Body):
    """A training on chain. Shares and the improvement are in 1e-18 units, times unix seconds, periods seconds.

    ``owners`` have accepted, of which ``trainers`` train, once that is drawn. ``share`` is this owner's part of the
    reward for improvement, and ``answered`` whether it is paid: both once a result is reported. ``deadline`` is then
    the end of the review, or of the arbiter's period.
    """

    status: str
    escrow: Wei
    bond: Wei
    wanted: int
    minimum: int
    join_deadline: int
    training_deadline: int
    review_period: int
    deadline: int
    fixed_share: int
    validator_share: int
    arbiter: str
    owners: int
    trainers: int
    share: int
    answered: bool
    reported: bool
    improvement: int

    @classmethod
    def of(cls, on_chain: Training, own: str) -> Self:
        """Note what concerns the owner of the account `own`."""
        terms = on_chain.terms
        place = next((each for each in on_chain.owners if each.address == own), None)
        return cls(
            status=on_chain.status.name,
            escrow=str(on_chain.escrow),
            bond=str(on_chain.bond),
            wanted=terms.wanted_owners,
            minimum=terms.minimum_owners,
            join_deadline=terms.join_deadline,
            training_deadline=terms.training_deadline,
            review_period=terms.review_period,
            deadline=on_chain.deadline,
            fixed_share=terms.fixed_share,
            validator_share=terms.validator_share,
            arbiter=terms.arbiter,
            owners=len(on_chain.owners),
            trainers=on_chain.trainer_count,
            share=0 if place is None else place.share,
            answered=place is not None and place.answered,
            reported=on_chain.result is not None,
            improvement=on_chain.improvement,
        )

    @property
    def prospects(self) -> Prospects:
        """What this owner can earn if it takes part and answers; once a result is reported, what that pays it."""
        if self.reported:
            trains = trainer_part(int(self.escrow), self.fixed_share, self.trainers, self.improvement, self.share)
            validates = validator_part(int(self.escrow), self.owners - self.trainers)
            return Prospects((self.answered * trains,) * 2, (self.answered * validates,) * 2)
        owners = (self.owners, self.owners) if self.trainers else (max(self.minimum, self.owners), self.wanted)
        return prospects(int(self.escrow), self.fixed_share, self.validator_share, owners)
