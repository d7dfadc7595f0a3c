"""`orchestra train --dry-run`: a forecast of the spend, with the limits and the assumptions."""

import sys
from collections.abc import Iterator

from rich.table import Table

from orchestra_ray.cli.tables import add_row, plain_table, show
from orchestra_ray.config.schema import Config, SpendConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import usd
from orchestra_ray.core.token_count import tokens
from orchestra_ray.data.catalogue import read_catalogue
from orchestra_ray.data.preferences.load import load_heldout_preferences
from orchestra_ray.data.tasks.source import check_sizes, sources
from orchestra_ray.evaluation.baselines import check_baselines
from orchestra_ray.spend.forecast import (
    LEAST_RESPONSE_TOKENS,
    MOST_SAMPLES,
    Amount,
    Case,
    Forecast,
    Reached,
    forecast,
    total,
)
from orchestra_ray.workers.tools.registry import available, check_backends

COLUMNS = (Case.LOW, Case.EXPECTED, Case.HIGH)
FIGURES = ("calls", "tokens in", "tokens out", "low $", "expected $", "high $")
TASKS_A_FAMILY = 8


def show_forecast(config: Config, training: bool, calls: float | None) -> None:
    """Prints the forecast and starts nothing.

    Raises ConfigError if the catalogue or the tasks do not allow the run.
    """
    if calls is not None and not 0 <= calls <= config.rollout.max_turns:
        raise ConfigError(
            f"--calls {calls:g}: an episode has {config.rollout.max_turns} turns"
            " (rollout.max_turns); give a number from 0 to that"
        )
    whole = read_catalogue(config.catalogue)
    check_backends(whole)
    check_baselines(config, whole)
    load_heldout_preferences(config.catalogue, config.evaluation.preferences)
    check_sizes(config, *sources(config.tasks), training)
    catalogue, absent = available(whole)
    for line in absent.values():
        print(line, file=sys.stderr)
    question_tokens = usual_question_tokens(config)
    found = forecast(config, catalogue, question_tokens, training, calls)
    print(
        f"{config.name}: {found.trained_episodes:,} episodes of training, "
        f"{found.measured_episodes:,} measured; nothing is started"
    )
    show(forecast_table(found))
    for line in remarks(config, found, question_tokens):
        print(line)


def usual_question_tokens(config: Config) -> int:
    """Returns the mean length of the first questions, in tokens."""
    train, heldout = sources(config.tasks)
    source = train if train.size else heldout
    count = min(TASKS_A_FAMILY, source.size)
    questions = [
        source.make(family, i).question
        for family in range(len(source.families))
        for i in range(count)
    ]
    return -(-tokens("".join(questions)) // len(questions))


def forecast_table(found: Forecast) -> Table:
    """Returns a row for each model or tool, the dearest first: expected calls and tokens, dollars
    by case.
    """
    table = plain_table(["model or tool"], FIGURES)
    expected = found.by_case[Case.EXPECTED]
    for name in sorted(expected, key=lambda name: -expected[name].nanousd):
        add_row(table, _cells(name, {case: found.by_case[case][name] for case in COLUMNS}))
    table.add_section()
    sums = {case: total(amounts) for case, amounts in found.by_case.items()}
    add_row(table, _cells("total", sums), bold=True)
    return table


def remarks(config: Config, found: Forecast, question_tokens: int) -> Iterator[str]:
    """Yields the limits with their effect, the calls that they refuse, and the assumptions."""
    yield f"At worst ${total(found.by_case[Case.WORST]).nanousd / 1e9:,.4f}"
    yield "Limits"
    for one in found.limits:
        yield f"  {one.key} {one.limit:g}: {_when_reached(one)}"
    for name, most_nanousd in sorted(found.refused.items()):
        most = f"it may cost ${usd(most_nanousd):,.4g}, which is above a limit of spend"
        yield f"  no call of {name} is granted: {most}; raise the limit"
    if config.spend == SpendConfig():
        yield "  none: spend.run_usd=N sets one, see `spend` in the configuration"
    yield "Assumed"
    rollout = config.rollout
    yield (
        f"  calls an episode: 1 (low), {found.calls:.2g} (expected; --calls sets it), "
        f"{rollout.max_turns} (high, worst: one a turn)"
    )
    yield "  all tools of a toolset are called equally often; at worst only the dearest"
    yield "  calls have their usual length; in high and worst they reach their limits"
    yield f"  a question has {question_tokens} tokens, each of four letters or a Chinese character"
    yield "  an answer has the catalogue's output_tokens, a call its latency and one search"
    yield (
        f"  the policy generates {LEAST_RESPONSE_TOKENS} tokens a turn (low), "
        f"{found.response_tokens} (expected), as many as rollout allows (high, worst)"
    )
    yield "  no call is retried, and none is replayed from a cassette"
    yield "  the limits hold for calls; the policy's own tokens are priced and not limited"
    if found.sampled_toolsets:
        yield f"  the run's first {MOST_SAMPLES} toolsets stand for all"


def _cells(name: str, by_case: dict[Case, Amount]) -> list[str]:
    expected = by_case[Case.EXPECTED]
    counts = (expected.calls, expected.input_tokens, expected.output_tokens)
    dollars = (by_case[case].nanousd / 1e9 for case in COLUMNS)
    return [name, *(f"{count:,.0f}" for count in counts), *(f"{each:,.4f}" for each in dollars)]


def _when_reached(one: Reached) -> str:
    first = next((case for case in Case if one.unlimited[case] > one.limit), None)
    if first is None:
        return f"not reached; at worst {one.unlimited[Case.WORST]:,.4g}"
    return f"reached in the {first.value} case, which would come to {one.unlimited[first]:,.4g}"
