"""The books of a run: the spend guard and the ledger behind one door. Pure state.

An attempt is reserved before it is made; its call is entered once, and with its entry all its
attempts are settled. So what the guard holds settled is what the ledger's entries of calls sum to,
at every moment and through every crash:

- a call that was entered has ended. Entering it again changes nothing, so a posting may be sent
  twice; a reservation that comes late is refused; one that its call does not settle, since the call
  gave up before it was granted, is free again;
- a call whose executor died is entered as lost, at the most that it can have cost;
- a posting that cannot be right is entered at the most too, and is told at the step's close;
- one at which the books themselves break is counted and told, and the others of its batch go on.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestra_ray.core.faults import Failure, FailureKind, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import LedgerEntry, Lost, Reservation, Settlement, ToolRequest
from orchestra_ray.data.catalogue import model_of
from orchestra_ray.spend.budget import SpendBudget
from orchestra_ray.spend.ledger import Ledger

WHERE = "the books"
RUN_REFUSED = "ledger/run_refused"


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the close of a step tells: totals of the run so far, and what went wrong since."""

    totals: Mapping[str, float]
    failures: tuple[Failure, ...]


def call_of(request: ToolRequest) -> str:
    """What the books know a call by: each issue of it is one of its own."""
    return f"{request.call_id}#{request.reissues}"


@dataclass(slots=True)
class SpendAccounts:
    budget: SpendBudget
    ledger: Ledger
    misposted: int = 0
    _ended: dict[str, int] = field(default_factory=dict)  # call -> step
    _failures: list[Failure] = field(default_factory=list)

    def reserve(self, asked: Sequence[Reservation]) -> list[str | None]:
        """None for each that is granted, else why not."""
        return [self._reserve(one) for one in asked]

    def post(self, ended: Sequence[Settlement | Lost | Failure]) -> None:
        """Enters calls; a failure is told at the step's close."""
        for one in ended:
            try:
                self._post(one)
            except Exception as error:  # a bug of ours: the others of its batch are entered
                self.misposted += 1
                what = getattr(one, "call", type(one).__name__)
                message = f"{what}: {type(error).__name__}: {error}"
                self._failures.append(Failure(FailureKind.TOOL, WHERE, message))
        if self.ledger.is_due(time.monotonic()):
            self._flush()

    def close_step(self, step: int) -> StepTotals:
        """Writes what was entered, and forgets a step whose episodes have all ended."""
        self._flush()
        self.budget.forget_step(step)
        self._ended = {call: s for call, s in self._ended.items() if s != step}
        failures, self._failures = self._failures, []
        totals = {
            **self.ledger.metrics(),
            "ledger/misposted": float(self.misposted),
            RUN_REFUSED: float(self.budget.run_refused),
        }
        return StepTotals(totals, tuple(failures))

    def _reserve(self, asked: Reservation) -> str | None:
        try:
            return "this call is over" if asked.call in self._ended else self.budget.reserve(asked)
        except Exception as error:  # a bug of ours: the others of its batch have an answer
            message = f"{type(error).__name__}: {error}"
            self._failures.append(Failure(FailureKind.TOOL, WHERE, f"a reservation: {message}"))
            return f"the spend guard cannot read the reservation ({type(error).__name__})"

    def _post(self, one: Settlement | Lost | Failure) -> None:
        match one:
            case Settlement():
                self._enter(one)
            case Lost():
                self._enter_lost(one.request)
            case Failure():
                self._failures.append(one)

    def _flush(self) -> None:
        unwritten = self.ledger.flush()
        if unwritten is not None:
            self._failures.append(unwritten)

    def _enter(self, settlement: Settlement) -> None:
        if settlement.call in self._ended:
            return
        entry, charges = settlement.entry, dict(settlement.charges)
        held = self.budget.held_of(settlement.call)
        wrong = _wrong(settlement, held)
        if wrong is not None:
            self.misposted += 1
            self._failures.append(Failure(FailureKind.TOOL, WHERE, f"{settlement.call}: {wrong}"))
            charges = {key: reservation.most_nanousd for key, reservation in held.items()}
            entry = replace(entry, charged_nanousd=sum(charges.values()))
        for key in held:
            self.budget.settle(key, charges.get(key, 0))
        self.ledger.add([entry])
        self._ended[settlement.call] = entry.caller.step

    def _enter_lost(self, request: ToolRequest) -> None:
        held = self.budget.held_of(call_of(request))
        charges = {key: reservation.most_nanousd for key, reservation in held.items()}
        entry = LedgerEntry(
            call_id=request.call_id,
            caller=request.caller,
            identity=request.option.identity,
            alias=request.option.alias,
            kind=request.option.kind,
            price_sheet=request.option.price_sheet,
            model=model_of(request.option),
            usage=Usage(),
            charged_nanousd=sum(charges.values()),
            service_s=0.0,
            queue_s=request.waited_s,
            error=FaultKind.LOST.value,
        )
        self._enter(Settlement(call_of(request), entry, tuple(charges.items())))


def _wrong(settlement: Settlement, held: Mapping[str, Reservation]) -> str | None:
    """Why a posting cannot be right; None: it can."""
    for key, charged_nanousd in settlement.charges:
        if key not in held or not 0 <= charged_nanousd <= held[key].most_nanousd:
            return f"{charged_nanousd} nano-dollars for {key}, for which was held {held.get(key)}"
    if settlement.entry.kind == "policy":  # its own tokens are not reserved
        return None
    charged_nanousd = sum(charged for _, charged in settlement.charges)
    if charged_nanousd != settlement.entry.charged_nanousd:
        return f"its attempts sum to {charged_nanousd}, not {settlement.entry.charged_nanousd}"
    return None
