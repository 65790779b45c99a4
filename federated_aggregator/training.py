"""A training from its pre-processing to its outcome: rounds, evaluations, contributions.

Every step is saved under its name before it is acted on, so running this again after a crash repeats what was
decided and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from gmpy2 import mpz

from commons.protocol.messages import EvaluationKind
from commons.protocol.outcome import Outcome, settle, settlement_vectors
from commons.protocol.schedule import has_converged
from federated_aggregator.course import Course
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.rounds import Rounds, Sum
from federated_aggregator.standardisation import Standardisation
from federated_aggregator.storage import Storage

Reporter = Callable[[Course], None]


class Training:
    """Runs one training after the other's chain state says that it has started.

    Parameters
    ----------
    storage : Storage
        How far trainings have come.
    standardisation, rounds, evaluations
        The exchanges with trainers, validators and the buyer.
    report : callable
        Told when a training has a new metric.
    """

    def __init__(
        self,
        storage: Storage,
        standardisation: Standardisation,
        rounds: Rounds,
        evaluations: Evaluations,
        report: Reporter,
    ) -> None:
        self._storage = storage
        self._standardisation = standardisation
        self._rounds = rounds
        self._evaluations = evaluations
        self._report = report

    def run(self, course: Course) -> tuple[Outcome, Sum]:
        """Train until the order says stop, and settle.

        Returns
        -------
        outcome : Outcome
            What the training came to.
        trained : Sum
            The last round's sum: the trained model, encrypted, times its factor.

        Raises
        ------
        TooFewAnswered, Diverged, Deviated, PeerRefused, VerificationFailed
            The training cannot go on.
        PeerUnavailable
            It can, later.
        """
        self._standardisation.run(course)
        self._start(course)
        self._rounds.local_models(course)
        hyper = course.order.hyper_parameters
        total = self._rounds.last(course)
        if total is None:
            total = self._rounds.collect(course, None)
        else:
            self._catch_up(course, total.round)
        # An evaluation runs beside the next rounds, which need not wait for it unless the order has a tolerance.
        with ThreadPoolExecutor(1, thread_name_prefix="evaluation") as beside:
            evaluation: Future[None] | None = None
            while (iteration := total.round + 1) < hyper.iterations:
                if iteration % hyper.evaluation_interval == 0:
                    if evaluation is not None:
                        evaluation.result()  # one at a time; and what ended it ends the training
                    evaluation = beside.submit(self._evaluate, course, total)
                    if hyper.tolerance and self._converged(course, iteration, evaluation):
                        break
                self._standardisation.tell(course)
                total = self._rounds.collect(course, total)
            if evaluation is not None:
                evaluation.result()
        outcome = self._settle(course, total)
        self._storage.add_phases(course.id, course.meter.take())
        return outcome, total

    def local_models(self, course: Course) -> tuple[tuple[int, ...], list[list[mpz]]]:
        """Return who sent a local model, and those models, encrypted."""
        return self._rounds.local_models(course)

    def _start(self, course: Course) -> None:
        if self._storage.training(course.id).validators is None:
            everybody = range(len(course.validator_rows))
            mse, validators = self._evaluations.zero(course, 0, everybody, all_of_them=False)
            self._record(course, 0, mse)  # before what says that this is done
            self._storage.move(course.id, validators=list(validators))

    def _catch_up(self, course: Course, rounds: int) -> None:
        """Do the evaluations that were interrupted beside rounds that were not."""
        done = {metric.iteration for metric in self._storage.metrics(course.id)}
        interval = course.order.hyper_parameters.evaluation_interval
        for evaluated in range(interval, rounds + 1, interval):
            if evaluated not in done:
                self._evaluate(course, self._rounds.collected(course, evaluated - 1))

    def _evaluate(self, course: Course, total: Sum) -> None:
        iteration = total.round + 1
        mses, _ = self._score(course, "iteration", iteration, [total.ciphertexts], total.trainers, ())
        self._record(course, iteration, mses[0])

    def _settle(self, course: Course, total: Sum) -> Outcome:
        iteration = total.round + 1
        contributors, models = self._rounds.local_models(course)
        with course.meter.phase("contributions"):
            weights = [course.weights[place] for place in contributors]
            vectors = settlement_vectors(total.ciphertexts, models, weights, course.key)
        measured, validators = self._score(course, "settlement", iteration, vectors, total.trainers, contributors)
        self._record(course, iteration, measured[0])
        zero, scored = self._evaluations.zero(course, 0, validators, all_of_them=False)
        if scored != validators:  # one was lost on the way: the zero model once more, by those who remain
            zero, _ = self._evaluations.zero(course, 1, validators, all_of_them=True)
        return settle(
            course.id,
            zero,
            measured,
            course.weights,
            [self._rounds.trainers(course, round_) for round_ in range(iteration)],
            contributors,
            len(course.validator_rows),
            validators,
        )

    def _score(
        self,
        course: Course,
        kind: EvaluationKind,
        iteration: int,
        vectors: list[list[mpz]],
        trainers: tuple[int, ...],
        contributors: tuple[int, ...],
    ) -> tuple[list[int], tuple[int, ...]]:
        remaining = self._storage.training(course.id).validators
        assert remaining is not None
        mses, validators = self._evaluations.models(course, kind, iteration, vectors, trainers, contributors, remaining)
        if list(validators) != remaining:
            self._storage.move(course.id, validators=list(validators))
        return mses, validators

    def _converged(self, course: Course, iteration: int, evaluation: Future[None]) -> bool:
        evaluation.result()
        mses = [metric.mse for metric in self._storage.metrics(course.id) if metric.iteration <= iteration]
        return has_converged(mses, course.order.hyper_parameters.tolerance)

    def _record(self, course: Course, iteration: int, mse: int) -> None:
        self._storage.add_phases(course.id, course.meter.take())
        self._storage.add_metric(course.id, iteration, mse)
        self._report(course)
