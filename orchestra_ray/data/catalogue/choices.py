"""A recipe's call, once its model is chosen, and which model does a call."""

from dataclasses import replace

from orchestra_ray.core.records import ToolOption

MODEL = "model"  # the one argument of a tool with choices


def model_of(option: ToolOption) -> str:
    """Who does a call of the offer: itself, or the one choice that is left; "" for a plain tool."""
    if option.kind == "model":
        return option.identity
    return option.choices[0].identity if len(option.choices) == 1 else ""


def chosen(option: ToolOption, name: str) -> ToolOption | None:
    """The recipe's offer as done by one choice: its alias, prices and latency; None: no such one.

    `identity` stays the recipe's; `choices` holds the chosen one alone, whose `identity` is the
    model. The prices are those of the whole call: the model's tokens, and what the recipe runs.
    """
    choice = next((choice for choice in option.choices if choice.alias == name), None)
    if choice is None:
        return None
    return replace(
        option,
        alias=choice.alias,
        description=choice.description,
        prices=choice.prices,
        latency_s=choice.latency_s,
        choices=(choice,),
    )
