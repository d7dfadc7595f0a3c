"""Parsing the usage that chat endpoints report, in their various dialects.

A figure is a whole number, also if written as a float or a string. It is plausible from 1 to the
maximum that the request allows; an implausible or missing figure is replaced by an estimate.

- Input: `prompt_tokens`, or `input_tokens` plus Anthropic's `cache_read_input_tokens` and
  `cache_creation_input_tokens`. If missing, the total minus the output.
- Output: `completion_tokens` or `output_tokens`. Some servers (Gemini, xAI) exclude the reasoning,
  though they bill it. The output is therefore the largest of the reported output, the total minus
  the input, and, if reasoning exceeds output, their sum.
- Cached tokens above the input and reasoning tokens above the output count as 0, so the tokens are
  billed at the normal price.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestra_ray.core.money import Usage

Figures = Mapping[str, object]

_INPUT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = (
    "cached_tokens",  # OpenAI, vLLM, SGLang in the details; Moonshot, Together beside the totals
    "prompt_cache_hit_tokens",  # DeepSeek
    "cache_read_input_tokens",  # Anthropic
)
# Not included in `input_tokens`.
_BESIDE_INPUT = ("cache_read_input_tokens", "cache_creation_input_tokens")


def merged(before: Figures, piece: Figures) -> Figures:
    """Merges the usage of a further chunk into the usage so far; nulls are ignored."""
    return {**before, **{name: value for name, value in piece.items() if value is not None}}


def usages_in(piece: Figures) -> Iterator[Figures]:
    """Yields each usage in a body or chunk: at its top level, in `x_groq`, or in a choice."""
    choices = piece.get("choices")
    holders = [piece, piece.get("x_groq"), *(choices if isinstance(choices, list) else [])]
    for holder in holders:
        usage = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(usage, Mapping):
            yield usage


def usage_of(figures: Figures, most: Usage, otherwise: Usage) -> Usage:
    """Returns the reported usage, with each implausible figure taken from `otherwise`."""
    total = _first(figures, ("total_tokens",))
    input_tokens, output_tokens = _input(figures), _first(figures, _OUTPUT)
    if input_tokens is None and None not in (total, output_tokens):
        input_tokens = _difference(total, output_tokens)
    if not _is_plausible(input_tokens, most.input_tokens):
        input_tokens = None
    output_tokens = _output(
        figures, output_tokens, _difference(total, input_tokens), most.output_tokens
    )
    input_tokens = otherwise.input_tokens if input_tokens is None else input_tokens
    output_tokens = otherwise.output_tokens if output_tokens is None else output_tokens
    cached = _first_of_all(figures, _INPUT_DETAILS, _CACHED) or 0
    reasoned = _reasoned(figures) or 0
    return Usage(
        input_tokens=input_tokens,
        cached_tokens=cached if cached <= input_tokens else 0,
        output_tokens=output_tokens,
        reasoning_tokens=reasoned if reasoned <= output_tokens else 0,
    )


def _input(figures: Figures) -> int | None:
    input_tokens = whole_number(figures.get(_INPUT[0]))
    if input_tokens is not None:
        return input_tokens
    input_tokens = whole_number(figures.get(_INPUT[1]))
    if input_tokens is None:
        return None
    return input_tokens + sum(whole_number(figures.get(name)) or 0 for name in _BESIDE_INPUT)


def _output(figures: Figures, reported: int | None, by_total: int | None, most: int) -> int | None:
    """Returns the largest plausible candidate."""
    candidates = [reported, by_total]
    reasoned = _reasoned(figures)
    if reported is not None and reasoned is not None and reasoned > reported >= 0:
        candidates.append(reported + reasoned)
    plausible = [one for one in candidates if one is not None and _is_plausible(one, most)]
    return max(plausible, default=None)


def _reasoned(figures: Figures) -> int | None:
    return _first_of_all(figures, _OUTPUT_DETAILS, ("reasoning_tokens",))


def _is_plausible(value: int | None, most: int) -> bool:
    return value is not None and 1 <= value <= most


def _difference(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total - part


def _first_of_all(figures: Figures, details: Sequence[str], names: Sequence[str]) -> int | None:
    """Returns the first non-negative figure, in the details or beside the totals."""
    holders: list[Any] = [*(figures.get(name) for name in details), figures]
    found = (_first(one, names) for one in holders if isinstance(one, Mapping))
    return next((value for value in found if value is not None and value >= 0), None)


def _first(figures: Figures, names: Sequence[str]) -> int | None:
    values = (whole_number(figures.get(name)) for name in names)
    return next((value for value in values if value is not None), None)


def whole_number(value: object) -> int | None:
    """Returns `value` as an int, None if it is not whole: 9, 9.0, "9" and "9.0" give 9."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 32 else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) != float("inf") and value % 1 == 0 else None
