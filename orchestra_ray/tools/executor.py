"""Running one call: check the arguments against the draw, execute, charge.

Whatever the policy got wrong (an unknown tool, a missing argument, a bad expression) becomes an
observation that names the fault; it costs nothing and the episode goes on.
"""

from collections.abc import Callable, Mapping
from typing import Any

from orchestra_ray.catalogue import Catalogue, ModelEntry
from orchestra_ray.catalogue.signatures import ASK
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import token_cost_nanousd
from orchestra_ray.core.records import LedgerEntry, Offer, ToolRequest, ToolResult
from orchestra_ray.tools.calculator import CalculatorError, calculate
from orchestra_ray.tools.models import ModelClient, SimulatedExpert

JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
}


class CallError(Exception):
    """A fault of the call itself: `kind` is its class in the ledger, the text the observation."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


TOOLS: Mapping[str, Callable[..., str]] = {"calculator": calculate}


class Executor:
    """Executes requests against a catalogue. Holds no state between calls."""

    def __init__(self, catalogue: Catalogue):
        check_executors(catalogue)
        self._catalogue = catalogue
        self._models: Mapping[str, ModelClient] = {
            name: SimulatedExpert(entry) for name, entry in catalogue.models.items()
        }

    async def execute(self, request: ToolRequest) -> ToolResult:
        try:
            if request.name == ASK:
                return await self._ask(request)
            return self._run_tool(request)
        except CallError as fault:
            entry = _entry(request, request.name, "tool", error=fault.kind)
            return ToolResult(f"error: {fault}", entry, error=fault.kind)

    async def _ask(self, request: ToolRequest) -> ToolResult:
        check_arguments(request.arguments, {"model": "string"})
        offer = _offer(request, request.arguments["model"], "model")
        reply = await self._models[offer.identity].ask(request, offer)
        cost_nanousd = token_cost_nanousd(reply.input_tokens, offer.input_nanousd_per_mtok)
        cost_nanousd += token_cost_nanousd(reply.output_tokens, offer.output_nanousd_per_mtok)
        entry = LedgerEntry(
            call_id=request.call_id,
            turn=request.turn,
            identity=offer.identity,
            kind="model",
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            charged_nanousd=cost_nanousd,
            service_s=reply.service_s,
        )
        return ToolResult(reply.text, entry)

    def _run_tool(self, request: ToolRequest) -> ToolResult:
        offer = _offer(request, request.name, "tool")
        tool = self._catalogue.tools[offer.identity]
        check_arguments(request.arguments, tool.parameters)
        try:
            text = TOOLS[tool.executor](**request.arguments)
        except CalculatorError as error:
            raise CallError("bad_expression", str(error)) from None
        entry = _entry(request, offer.identity, "tool", offer.call_nanousd, offer.latency_s)
        return ToolResult(text, entry)


def check_executors(catalogue: Catalogue) -> None:
    """`ConfigError` where an entry names an executor that does not exist."""
    for entry in (*catalogue.models.values(), *catalogue.tools.values()):
        known = ("simulated",) if isinstance(entry, ModelEntry) else tuple(TOOLS)
        if entry.executor not in known:
            raise ConfigError(
                f"catalogue: {entry.name}: no executor {entry.executor}; choose from: "
                + ", ".join(known)
            )


def check_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    """Every parameter there, none beside them, each of its JSON type; else `CallError`."""
    for name, kind in parameters.items():
        if name not in arguments:
            raise CallError("missing_argument", f"argument {name} is missing")
        value = arguments[name]
        is_bool = isinstance(value, bool)  # which Python counts among the integers
        if not isinstance(value, JSON_TYPES[kind]) or is_bool != (kind == "boolean"):
            raise CallError("wrong_type", f"argument {name} must be a {kind}")
    for name in arguments:
        if name not in parameters:
            raise CallError("extra_argument", f"there is no argument {name}")


def _offer(request: ToolRequest, alias: str, kind: str) -> Offer:
    offer = request.draw.offer(alias)
    if offer is None or offer.kind != kind:
        known = ", ".join(o.alias for o in request.draw.offers if o.kind == kind)
        raise CallError(f"unknown_{kind}", f"there is no {kind} {alias}; choose from: {known}")
    return offer


def _entry(
    request: ToolRequest,
    identity: str,
    kind: str,
    charged_nanousd: int = 0,
    service_s: float = 0.0,
    error: str | None = None,
) -> LedgerEntry:
    return LedgerEntry(
        call_id=request.call_id,
        turn=request.turn,
        identity=identity,
        kind=kind,
        input_tokens=0,
        output_tokens=0,
        charged_nanousd=charged_nanousd,
        service_s=service_s,
        error=error,
    )
