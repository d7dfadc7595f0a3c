"""The spend accounts of a run: its budget and its ledger, kept consistent.

The maximum cost of an attempt is reserved before the attempt is made. When a call ends, it is
entered in the ledger once, which settles all its attempts. Invariant, at every moment and through
every crash: the settled money of the budget equals the sum of the ledger's entries.

- Entering a call again changes nothing, so a settlement may be sent twice. Reservations of an
  entered call are refused. Its reservations that the settlement does not name are released.
- A call whose executor died is entered as lost, at its maximum cost.
- A settlement that does not match its reservations is entered at their maximum cost, and reported
  at the end of the step.
- A settlement that raises is counted and reported; the rest of its batch is entered.
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

WHERE = "spend accounts"
RUN_REFUSED = "ledger/run_refused"


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Metrics of the run so far, and the failures since the last close of a step."""

    totals: Mapping[str, float]
    failures: tuple[Failure, ...]


def call_of(request: ToolRequest) -> str:
    """Returns the key of a call in the accounts; each reissue has a key of its own."""
    return f"{request.call_id}#{request.reissues}"


@dataclass(slots=True)
class SpendAccounts:
    budget: SpendBudget
    ledger: Ledger
    inconsistent: int = 0  # settlements that were inconsistent or raised
    _ended: dict[str, int] = field(default_factory=dict)  # call -> step
    _failures: list[Failure] = field(default_factory=list)

    def reserve(self, asked: Sequence[Reservation]) -> list[str | None]:
        """Returns None for each granted reservation, else the refusal."""
        return [self._reserve(one) for one in asked]

    def settle(self, ended: Sequence[Settlement | Lost | Failure]) -> None:
        """Enters calls, and keeps failures for the close of the step."""
        for one in ended:
            try:
                self._settle(one)
            except Exception as error:  # a bug: the others of its batch are entered
                self.inconsistent += 1
                what = getattr(one, "call", type(one).__name__)
                message = f"{what}: {type(error).__name__}: {error}"
                self._failures.append(Failure(FailureKind.TOOL, WHERE, message))
        if self.ledger.is_due(time.monotonic()):
            self._flush()

    def close_step(self, step: int) -> StepTotals:
        """Writes the entries, and forgets a step whose episodes have all ended."""
        self._flush()
        self.budget.forget_step(step)
        self._ended = {call: s for call, s in self._ended.items() if s != step}
        failures, self._failures = self._failures, []
        totals = {
            **self.ledger.metrics(),
            "ledger/inconsistent": float(self.inconsistent),
            RUN_REFUSED: float(self.budget.run_refused),
        }
        return StepTotals(totals, tuple(failures))

    def _reserve(self, asked: Reservation) -> str | None:
        try:
            return "this call is over" if asked.call in self._ended else self.budget.reserve(asked)
        except Exception as error:  # a bug: the others of its batch get an answer
            message = f"{type(error).__name__}: {error}"
            self._failures.append(Failure(FailureKind.TOOL, WHERE, f"a reservation: {message}"))
            return f"the spend accounts cannot read the reservation ({type(error).__name__})"

    def _settle(self, one: Settlement | Lost | Failure) -> None:
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
            self.inconsistent += 1
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
    """Returns why a settlement is inconsistent; None if it is not."""
    for key, charged_nanousd in settlement.charges:
        if key not in held or not 0 <= charged_nanousd <= held[key].most_nanousd:
            return f"{charged_nanousd} nano-dollars for {key}, reserved: {held.get(key)}"
    if settlement.entry.kind == "policy":  # the policy's tokens are not reserved
        return None
    charged_nanousd = sum(charged for _, charged in settlement.charges)
    if charged_nanousd != settlement.entry.charged_nanousd:
        return f"its attempts sum to {charged_nanousd}, not {settlement.entry.charged_nanousd}"
    return None
