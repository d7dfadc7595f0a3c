"""Function signatures of a toolset, in OpenAI's JSON form for the chat template.

All models share one function, `ask(model)`, whose parameter description holds the table of choices
with prices and latencies, as in the released interface; each tool is a function, and recipes have
such a parameter and table too. `submit(reply)`, if offered, ends the episode with a previous reply
verbatim, so that the policy need not copy it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestra_ray.core.money import Prices, usd
from orchestra_ray.core.records import ToolOption, ToolsetSample
from orchestra_ray.data.catalogue.arguments import prompt_schema
from orchestra_ray.data.catalogue.choices import MODEL

ASK = "ask"
SUBMIT = "submit"
SUBMIT_SCHEMA = {
    "type": "object",
    "properties": {"reply": {"type": "integer"}},
    "required": ["reply"],
}
_TABLE = "model | $ per million input tokens | $ per million output tokens | mean latency"


def signatures(toolset: ToolsetSample, submit: bool = False) -> list[dict[str, Any]]:
    """Returns the function signatures of the toolset, and of `submit` if it is offered."""
    models = [option for option in toolset.options if option.kind == "model"]
    functions = [_ask(models)] if models else []
    functions += [_tool(option) for option in toolset.options if option.kind == "tool"]
    if submit:
        described = "answers with reply 1, 2, ..."
        functions.append(_function(SUBMIT, described, SUBMIT_SCHEMA))
    return functions


def model_line(option: ToolOption) -> str:
    """Returns a row of the table: alias, ability, dollars per million tokens, seconds."""
    price = _token_price(option.prices)
    return f"{option.alias}: {option.description}; {price}, {option.latency_s:g} s"


def price_words(prices: Prices) -> str:
    """Returns the prices of a call in words."""
    by_unit = (
        (prices.call_nanousd, "a call"),
        (prices.search_nanousd, "a search"),
        (prices.second_nanousd, "a second"),
    )
    words = [f"{_dollars(price)} {unit}" for price, unit in by_unit if price]
    if prices.input_nanousd_per_mtok or prices.output_nanousd_per_mtok:
        words.append(f"{_token_price(prices)} per M tokens")
    return ", ".join(words) or "free"


def _ask(models: Sequence[ToolOption]) -> dict[str, Any]:
    table = "\n".join(model_line(option) for option in models)
    described = f"model: good at; $ per M tokens (in/out), latency\n{table}"
    return _function(
        ASK, "gives the task to a model", _needing({MODEL: _one_of(models, described)})
    )


def _tool(option: ToolOption) -> dict[str, Any]:
    if option.signature is not None:
        return dict(option.signature)
    if not option.choices:
        terms = f"{price_words(option.prices)}, {option.latency_s:g} s"
        return _function(
            option.alias, f"{option.description}; {terms}", prompt_schema(option.parameters)
        )
    own = price_words(_without_tokens(option.prices))
    described = option.description if own == "free" else f"{option.description}; {own}, and tokens"
    choice = _one_of(option.choices, _table(option.choices))
    return _function(option.alias, described, _needing({MODEL: choice}))


def _table(choices: Sequence[ToolOption]) -> str:
    abilities = [f"{choice.alias}: {choice.description}" for choice in choices]
    rows = [
        f"{choice.alias} | {_dollars(choice.prices.input_nanousd_per_mtok)}"
        f" | {_dollars(choice.prices.output_nanousd_per_mtok)} | {choice.latency_s:g} s"
        for choice in choices
    ]
    return "\n".join([*abilities, _TABLE, *rows])


def _one_of(options: Sequence[ToolOption], description: str) -> Mapping[str, Any]:
    aliases = [option.alias for option in options]
    return {"type": "string", "description": description, "enum": aliases}


def _token_price(prices: Prices) -> str:
    price_in, price_out = prices.input_nanousd_per_mtok, prices.output_nanousd_per_mtok
    if price_in == price_out:
        return _dollars(price_in)
    return f"{_dollars(price_in)}/{_dollars(price_out)}"


def _dollars(amount_nanousd: int) -> str:
    amount = usd(amount_nanousd)
    return f"${amount:.9f}".rstrip("0") if 0 < amount < 1e-4 else f"${amount:g}"


def _without_tokens(prices: Prices) -> Prices:
    return replace(
        prices, input_nanousd_per_mtok=0, cached_nanousd_per_mtok=0, output_nanousd_per_mtok=0
    )


def _needing(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _function(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
