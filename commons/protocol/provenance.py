"""What the models of a settlement are made of: the contributors' own answers, and nothing else.

Contributions follow from the errors of sums of local models. An aggregator that put one trainer's model in another's
place would be found out by nobody but an auditor, since only ciphertexts are seen: so validators look where the
ciphertexts come from before they score them.
"""

from __future__ import annotations

from collections.abc import Sequence

from commons.crypto.paillier import PublicKey
from commons.crypto.powers import Rerandomised, first_false
from commons.errors import InvalidInput, VerificationFailed
from commons.protocol import wire
from commons.protocol.messages import LocalModelQuestion, ScoreQuestion, Vector
from commons.protocol.outcome import settlement_vectors
from commons.protocol.signed import Domain, Signed


def require_local_models(
    question: ScoreQuestion,
    trainers: Sequence[str],
    weights: Sequence[int],
    length: int,
    key: PublicKey,
    domain: Domain,
) -> None:
    """Check that all models of a settlement but the trained one are sums of what the contributors signed.

    The trained one may be any: what is scored there is what is delivered, and the better of it and the average is
    paid for. (To show the updates that it sums would tell a validator that colludes with the buyer every trainer's.)

    Parameters
    ----------
    question : ScoreQuestion
        What a validator is asked at settlement.
    trainers : sequence of str
        Addresses of all trainers, in the contract's order.
    weights : sequence of int
        Averaging weight of each.
    length : int
        Length d of a model.
    key : PublicKey
        With a proof that was verified.
    domain : Domain

    Raises
    ------
    VerificationFailed
        A local model is not that trainer's answer, or a model is no sum of them.
    InvalidInput
        Something is missing, or too long.
    """
    asked = Signed(content=question.local_question, signature=b"")
    if asked.read(LocalModelQuestion).training != question.training:
        raise VerificationFailed("the local models are answers to a question about another training")
    if tuple(reply.place for reply in question.local_models) != question.contributors:
        raise InvalidInput("must be of the contributors, in their order", "local_models")
    models = []
    for reply in question.local_models:
        said = Signed(content=reply.content, signature=reply.signature)
        models.append(key.decode(said.verified(Vector, domain, trainers[reply.place], asked).ciphertexts, length))
    chosen = [weights[place] for place in question.contributors]
    plain = wire.join(settlement_vectors([], models, chosen, key)[1:])
    count = len(plain)
    masked = key.decode(question.masked, count + length)[length:]
    masks = wire.decode_masks(question.masks, count + length)[length:]
    roots = wire.decode_roots(question.randomisers, count, key)
    place = first_false(
        [
            Rerandomised(found, key.add(ciphertext, mask), root)
            for found, ciphertext, mask, root in zip(masked, plain, masks, roots, strict=True)
        ],
        key,
    )
    if place is not None:
        raise VerificationFailed(f"model {1 + place // length} of the settlement is not made of the local models")
