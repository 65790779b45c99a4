"""What came of a cheat: for people as a story, for machines as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from commons.chain.training import PaymentKind
from commons.errors import VerificationFailed
from scripts.local.cheats import Ended, Event, Stage, Trial
from scripts.local.flow import Json
from scripts.local.report import ETHER


@dataclass(frozen=True)
class Story:
    """A training with a cheat, from the order to the end."""

    stage: Stage
    trial: Trial
    ended: Ended

    @property
    def training_id(self) -> str:
        """The training's id, everywhere."""
        return self.trial.training_id

    @property
    def problems(self) -> list[str]:
        """What did not go as the protocol says."""
        return self.ended.problems()

    @property
    def verdict(self) -> str:
        """How it ended, in one line."""
        if self.problems:
            return f"NOT as designed: {'; '.join(self.problems)}"
        return f"As designed: {self.ended.cheat.caught}. {self._gain()}"

    def require_success(self) -> None:
        """Raise VerificationFailed unless everything went as the protocol says."""
        if self.problems:
            raise VerificationFailed(self.verdict)

    def show(self, console: Console) -> None:
        """Print what is left to tell when the training is over."""
        if self.trial.arbitration is not None:
            console.print("\n[bold]deltaml arbitrate[/], run with the arbiter's account:\n")
            console.print(self.trial.arbitration.output, markup=False, highlight=False, soft_wrap=True)
        for grid in (self._records(), self._payouts()):
            console.print()
            console.print(grid)
        if self.ended.dispute is not None:
            dispute = self.ended.dispute
            decision = "nothing" if dispute.outcome is None else dispute.outcome.name
            bonds = [p.recipient for p in self.ended.payments if p.kind == PaymentKind.BOND]
            evidence = dispute.evidence_hash.hex()
            for line in (
                f"\n{self.stage.names[dispute.disputer]} disputed, with evidence whose hash is {evidence}.",
                f"The arbiter decided {decision}; the bond of {_ether(self.ended.chain.bond)} went to"
                f" {', '.join(self.stage.names[each] for each in bonds)}.",
            ):
                console.print(line, soft_wrap=True)
        console.print()
        console.print(Text(self.verdict, "bold red" if self.problems else "bold green"), soft_wrap=True)

    def to_json(self) -> Json:
        """Return the story for machines; parties are keys by their address, amounts are in wei."""
        ended, dispute = self.ended, self.ended.dispute
        parties = self._parties()
        return {
            "cheat": ended.cheat.name,
            "does": ended.cheat.does,
            "caught": ended.cheat.caught,
            "training": self.training_id,
            "as_designed": not self.problems,
            "problems": self.problems,
            "verdict": self.verdict,
            "cheater": ended.cheater,
            "roles": {"trainers": list(ended.chain.trainers), "validators": list(ended.chain.validators)},
            "events": [vars(event) for event in self.trial.events],
            "status": ended.chain.status.name,
            "reason": ended.failure or None,
            "records": {
                name: {"status": record["status"], "reason": record["reason"]} for name, record in ended.records.items()
            },
            "dispute": None
            if dispute is None
            else {
                "disputer": dispute.disputer,
                "evidence_hash": dispute.evidence_hash.hex(),
                "outcome": None if dispute.outcome is None else dispute.outcome.name,
                "arbiter_said": None if self.trial.arbitration is None else self.trial.arbitration.output,
            },
            "payouts_wei": {address: ended.received(address) for address in parties},
            "honest_payouts_wei": {address: ended.honestly(address) for address in parties},
            "bonds_wei": {p.recipient: p.wei for p in ended.payments if p.kind == PaymentKind.BOND},
        }

    def _parties(self) -> dict[str, str]:
        chain = self.ended.chain
        roles = {chain.buyer: "buyer", chain.aggregator: "aggregator"}
        return roles | dict.fromkeys(chain.trainers, "trainer") | dict.fromkeys(chain.validators, "validator")

    def _records(self) -> Grid:
        grid = Grid(title="What everybody's record says", title_justify="left", box=SIMPLE_HEAD)
        for column in ("", "status", "reason"):
            grid.add_column(column, overflow="fold")
        grid.add_row("chain", self.ended.chain.status.name, self.stage.named(self.ended.failure))
        for name, record in self.ended.records.items():
            grid.add_row(name, record["status"], self.stage.named(record["reason"] or ""))
        return grid

    def _payouts(self) -> Grid:
        grid = Grid(
            title="What the payment of the order became, in ether",
            caption="honestly: what it would have become if everybody had kept to the protocol",
            title_justify="left",
            caption_justify="left",
            box=SIMPLE_HEAD,
        )
        for column in ("", "role"):
            grid.add_column(column)
        for column in ("received", "honestly", "difference"):
            grid.add_column(column, justify="right")
        for address, role in self._parties().items():
            received, honestly = self.ended.received(address), self.ended.honestly(address)
            grid.add_row(
                self.stage.names[address],
                f"{role}, cheats" if address == self.ended.cheater else role,
                f"{received / ETHER:.6f}",
                f"{honestly / ETHER:.6f}",
                f"{(received - honestly) / ETHER:+.6f}",
            )
        return grid

    def _gain(self) -> str:
        ended = self.ended
        if ended.cheater is None:
            return "Nobody cheated."
        received, honestly = ended.received(ended.cheater), ended.honestly(ended.cheater)
        if ended.cheater != ended.chain.buyer:
            who = ended.cheat.role if ended.cheat.role == "aggregator" else self.stage.names[ended.cheater]
            return f"For honest work {who} would have received {_ether(honestly)}, and received {_ether(received)}."
        if ended.weights is None:
            return "The buyer has its payment back, and no model."
        spent, honest = ended.chain.escrow - received, ended.chain.escrow - honestly
        return (
            f"The model that the buyer has cost it {_ether(spent)}, as much as it is worth; honestly {_ether(honest)}."
        )


def show_event(event: Event, console: Console) -> None:
    """Print one event as a line."""
    console.print(f"[dim]{event.seconds:6.1f} s  {event.step:<20}[/]", end="")
    console.print(f"{event.who}: {event.what}", markup=False, soft_wrap=True)


def _ether(wei: int) -> str:
    return f"{wei / ETHER:.6f} ether"
