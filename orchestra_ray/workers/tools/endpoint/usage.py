"""Reading the usage that chat endpoints report, each in a dialect of its own.

A figure is a whole number, also one that is written as a float or a string. It is believed from 1
to the most that the request allows; any other, and a missing one, is taken from an estimate.

- Input: `prompt_tokens`, or `input_tokens`, to which Anthropic's `cache_read_input_tokens` and
  `cache_creation_input_tokens` are added. A missing one is the total less the output.
- Output: `completion_tokens` or `output_tokens`. Some servers (Gemini, xAI) leave the reasoning out
  of it; it is billed all the same. So the output is the largest of what is told, of the total less
  the input, and, if more reasoning is told than output, of both together.
- Cached tokens beyond the input count as none, and so does reasoning beyond the output: the tokens
  that they are part of are then billed like the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestra_ray.core.money import Usage

Figures = Mapping[str, object]

_INPUT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = (
    "cached_tokens",  # OpenAI, vLLM, SGLang in the details; Moonshot, Together beside the sums
    "prompt_cache_hit_tokens",  # DeepSeek
    "cache_read_input_tokens",  # Anthropic
)
_BESIDE_INPUT = ("cache_read_input_tokens", "cache_creation_input_tokens")  # of `input_tokens`


def merged(before: Figures, piece: Figures) -> Figures:
    """The usage so far with what a further chunk of a stream tells; a null tells nothing."""
    return {**before, **{name: value for name, value in piece.items() if value is not None}}


def told_by(piece: Figures) -> Iterator[Figures]:
    """The usage in a body or chunk: at its top, in Groq's object, or in a choice."""
    choices = piece.get("choices")
    holders = [piece, piece.get("x_groq"), *(choices if isinstance(choices, list) else [])]
    for holder in holders:
        usage = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(usage, Mapping):
            yield usage


def usage_of(figures: Figures, most: Usage, otherwise: Usage) -> Usage:
    """What the server reports; each figure that cannot be believed is from `otherwise`."""
    total = _first(figures, ("total_tokens",))
    given, made = _input(figures), _first(figures, _OUTPUT)
    if given is None and None not in (total, made):
        given = _less(total, made)
    if not _believable(given, most.input_tokens):
        given = None
    made = _output(figures, made, _less(total, given), most.output_tokens)
    given = otherwise.input_tokens if given is None else given
    made = otherwise.output_tokens if made is None else made
    cached = _first_of_all(figures, _INPUT_DETAILS, _CACHED) or 0
    reasoned = _reasoned(figures) or 0
    return Usage(
        input_tokens=given,
        cached_tokens=cached if cached <= given else 0,
        output_tokens=made,
        reasoning_tokens=reasoned if reasoned <= made else 0,
    )


def _input(figures: Figures) -> int | None:
    given = whole_number(figures.get(_INPUT[0]))
    if given is not None:
        return given
    given = whole_number(figures.get(_INPUT[1]))
    if given is None:
        return None
    return given + sum(whole_number(figures.get(name)) or 0 for name in _BESIDE_INPUT)


def _output(figures: Figures, told: int | None, by_total: int | None, most: int) -> int | None:
    """The largest of the figures that can be believed."""
    candidates = [told, by_total]
    reasoned = _reasoned(figures)
    if told is not None and reasoned is not None and reasoned > told >= 0:
        candidates.append(told + reasoned)
    believed = [one for one in candidates if one is not None and _believable(one, most)]
    return max(believed, default=None)


def _reasoned(figures: Figures) -> int | None:
    return _first_of_all(figures, _OUTPUT_DETAILS, ("reasoning_tokens",))


def _believable(value: int | None, most: int) -> bool:
    return value is not None and 1 <= value <= most


def _less(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total - part


def _first_of_all(figures: Figures, details: Sequence[str], names: Sequence[str]) -> int | None:
    """The first that is told, in the details or beside the sums."""
    holders: list[Any] = [*(figures.get(name) for name in details), figures]
    found = (_first(one, names) for one in holders if isinstance(one, Mapping))
    return next((value for value in found if value is not None and value >= 0), None)


def _first(figures: Figures, names: Sequence[str]) -> int | None:
    values = (whole_number(figures.get(name)) for name in names)
    return next((value for value in values if value is not None), None)


def whole_number(value: object) -> int | None:
    """`value` as a whole number, None if it is none: 9, 9.0, "9" and "9.0" are 9."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 32 else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) != float("inf") and value % 1 == 0 else None
