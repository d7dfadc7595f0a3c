"""The spend budget: money and calls are reserved before an attempt and settled after its call.

Invariants, for each call, episode, step and the whole run, in any order of events: settled +
reserved never exceeds a limit, to the nano-dollar; a reservation that is never settled (because its
process died) remains, at its maximum cost; a reservation key is granted once and settled once. A
call comprises all its attempts: retries, hedges, and those of its reissues on other executors.
Evaluation belongs to no step: else the evaluations of all policies would share the limit of one.

Not thread-safe; the actor that owns it serialises access.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra_ray.config.schema import SpendConfig
from orchestra_ray.core.money import Prices, Usage, nanousd, usd
from orchestra_ray.core.records import Caller, Reservation
from orchestra_ray.data.catalogue import Entry

MEASUREMENT = 0  # the step of evaluation calls


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """In nano-dollars and calls, where each attempt counts as a call; None means unlimited."""

    call_nanousd: int | None = None
    episode_nanousd: int | None = None
    step_nanousd: int | None = None
    run_nanousd: int | None = None
    episode_calls: int | None = None
    step_calls: int | None = None
    run_calls: int | None = None

    @property
    def count_calls(self) -> bool:
        """Whether free attempts have to be reserved too."""
        return (self.episode_calls, self.step_calls, self.run_calls) != (None, None, None)


def limits_of(config: SpendConfig) -> SpendLimits:
    def money(dollars: float | None) -> int | None:
        return None if dollars is None else nanousd(dollars)

    return SpendLimits(
        call_nanousd=money(config.call_usd),
        episode_nanousd=money(config.episode_usd),
        step_nanousd=money(config.step_usd),
        run_nanousd=money(config.run_usd),
        episode_calls=config.episode_calls,
        step_calls=config.step_calls,
        run_calls=config.run_calls,
    )


def most_cost_nanousd(entry: Entry, prices: Prices) -> int:
    """Returns the maximum bill of one attempt, by the limits of its entry."""
    limits = entry.limits
    usage = Usage(
        input_tokens=limits.context_tokens,
        output_tokens=limits.max_output_tokens,
        searches=limits.max_searches,
    )
    return prices.cost_nanousd(usage, limits.max_service_s)


@dataclass(slots=True)
class _Account:
    """Nano-dollars and calls, settled and reserved."""

    nanousd: int = 0
    calls: int = 0


_Scope = tuple[str, int, str]  # (limit, step, id)
_RUN = ("run", MEASUREMENT, "")


@dataclass(slots=True)
class SpendBudget:
    limits: SpendLimits
    _accounts: dict[_Scope, _Account] = field(default_factory=dict)
    _held: dict[str, dict[str, Reservation]] = field(default_factory=dict)  # by call, then key
    _settled: dict[str, int] = field(default_factory=dict)  # key -> step
    run_refused: bool = False  # whether a limit of the whole run has refused a call

    def go_on_from(self, nanousd: int, calls: int) -> None:
        """Counts the spend of an earlier process of the run against its limits."""
        account = self._accounts.setdefault(_RUN, _Account())
        account.nanousd += nanousd
        account.calls += calls

    def reserve(self, asked: Reservation) -> str | None:
        """Returns None if granted, else the refusal, which the policy reads.

        Reserving again is granted for a reserved key, without effect, and refused for a settled
        one.
        """
        if asked.key in self._settled:
            return "this attempt is paid and over"
        if asked.key in self._held.get(asked.call, {}):
            return None
        if asked.most_nanousd < 0:
            return "an attempt cannot cost less than nothing"
        for key in self._held.get(asked.call, {}).keys() & set(asked.free):
            self.settle(key, 0)
        most = asked.most_nanousd
        for name, account, money, calls in self._scopes(asked):
            if money is not None and account.nanousd + most > money:
                self.run_refused |= name == "run"
                return f"budget exhausted: ${usd(money):g} for the {name}"
            if calls is not None and account.calls + 1 > calls:
                self.run_refused |= name == "run"
                return f"budget exhausted: {calls} calls for the {name}"
        for _, account, _, _ in self._scopes(asked):
            account.nanousd += most
            account.calls += 1
        self._held.setdefault(asked.call, {})[asked.key] = asked
        return None

    def settle(self, key: str, charged_nanousd: int) -> None:
        """Replaces a reservation by its bill; settling again changes nothing.

        Raises ValueError if more was billed than reserved, or nothing was reserved.
        """
        if key in self._settled:
            return
        call = key.rpartition(".")[0]
        held = self._held.get(call, {}).get(key)
        if held is None or not 0 <= charged_nanousd <= held.most_nanousd:
            raise ValueError(f"SpendBudget: {charged_nanousd} nano-dollars for {key}: held {held}")
        del self._held[call][key]
        if not self._held[call]:
            del self._held[call]
        self._settled[key] = held.caller.step
        for _, account, _, _ in self._scopes(held):
            account.nanousd -= held.most_nanousd - charged_nanousd

    def held_of(self, call: str) -> Mapping[str, Reservation]:
        """Returns the unsettled reservations of a call by key."""
        return dict(self._held.get(call, {}))

    def forget_step(self, step: int) -> None:
        """Drops the accounts of a step, once its episodes can make no further call."""
        held = {
            scope
            for of_call in self._held.values()
            for reservation in of_call.values()
            for scope in (_call_scope(reservation), _episode_scope(reservation.caller))
        }
        over = {s for s in self._accounts if s[0] in ("call", "episode") and s[1] == step}
        for scope in over - held:
            del self._accounts[scope]
        self._settled = {key: s for key, s in self._settled.items() if s != step}

    @property
    def committed_nanousd(self) -> int:
        """Settled and reserved money of the whole run."""
        return self._accounts[_RUN].nanousd if _RUN in self._accounts else 0

    def _scopes(self, asked: Reservation) -> list[tuple[str, _Account, int | None, int | None]]:
        limits, step = self.limits, asked.caller.step
        scopes: list[tuple[_Scope, int | None, int | None]] = [
            (_call_scope(asked), limits.call_nanousd, None),
            (_episode_scope(asked.caller), limits.episode_nanousd, limits.episode_calls),
            (_RUN, limits.run_nanousd, limits.run_calls),
        ]
        if step != MEASUREMENT:
            scopes.insert(2, (("step", step, ""), limits.step_nanousd, limits.step_calls))
        return [
            (scope[0], self._accounts.setdefault(scope, _Account()), money, calls)
            for scope, money, calls in scopes
        ]


def _call_scope(asked: Reservation) -> _Scope:
    return ("call", asked.caller.step, asked.call_id)


def _episode_scope(caller: Caller) -> _Scope:
    return ("episode", caller.step, caller.episode_id)
