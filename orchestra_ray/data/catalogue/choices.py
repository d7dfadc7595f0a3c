"""Resolves the model of a recipe's call, and names the model that serves a call."""

from dataclasses import replace

from orchestra_ray.core.records import ToolOption

MODEL = "model"  # the only argument of a tool with choices


def model_of(option: ToolOption) -> str:
    """Returns the model that serves a call of the option; "" for a plain tool.

    That is the model itself, or the only choice of a resolved recipe.
    """
    if option.kind == "model":
        return option.identity
    return option.choices[0].identity if len(option.choices) == 1 else ""


def resolve_choice(option: ToolOption, name: str) -> ToolOption | None:
    """Returns the recipe's option with one choice's alias, prices and latency; None if unknown.

    `identity` stays the recipe's; `choices` holds the selected choice alone, whose `identity` is
    the model. The prices cover the whole call: the model's tokens, and the tool that the recipe
    runs.
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
