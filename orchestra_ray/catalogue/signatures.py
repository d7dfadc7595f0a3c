"""What the policy can call, as function signatures in OpenAI's JSON form for the chat template.

Models stand behind one function, `ask(model)`, whose parameter description holds the table of
choices with prices and latencies, as in the released interface (SPEC 2.1); a tool is a function
of its own. `submit(reply)`, where it is offered, ends the episode with a reply as it stands: the
policy need not write out what it only passes on.
"""

from typing import Any

from orchestra_ray.core.money import usd
from orchestra_ray.core.records import Draw, Offer

ASK = "ask"
SUBMIT = "submit"


def signatures(draw: Draw, submit: bool = False) -> list[dict[str, Any]]:
    """Function signatures of everything in the draw, and of `submit` where it is offered."""
    models = [offer for offer in draw.offers if offer.kind == "model"]
    tools = [offer for offer in draw.offers if offer.kind == "tool"]
    functions = [_ask(models)]
    for tool in tools:
        properties = {name: {"type": kind} for name, kind in tool.parameters.items()}
        functions.append(_function(tool.alias, tool.description, properties))
    if submit:
        properties = {"reply": {"type": "integer"}}
        functions.append(_function(SUBMIT, "answers with reply 1, 2, ...", properties))
    return functions


def model_line(offer: Offer) -> str:
    """One row of the table: alias, ability, dollars per million tokens, seconds."""
    price_in, price_out = usd(offer.input_nanousd_per_mtok), usd(offer.output_nanousd_per_mtok)
    price = f"${price_in:g}" if price_in == price_out else f"${price_in:g}/${price_out:g}"
    return f"{offer.alias}: {offer.description}; {price}, {offer.latency_s:g} s"


def _ask(models: list[Offer]) -> dict[str, Any]:
    table = "\n".join(model_line(offer) for offer in models)
    properties = {
        "model": {
            "type": "string",
            "description": f"model: good at; $ per M tokens (in/out), latency\n{table}",
            "enum": [offer.alias for offer in models],
        }
    }
    return _function(ASK, "gives the task to a model", properties)


def _function(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
            },
        },
    }
