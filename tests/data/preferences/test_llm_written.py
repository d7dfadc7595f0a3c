"""What becomes of the answers of the two models."""

import asyncio
import json

import pytest

from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.describe import Messages
from orchestra_ray.data.preferences.intents import Weights
from orchestra_ray.data.preferences.llm_written import (
    MOST_FAILURES,
    Drop,
    FilteredProposals,
    Proposal,
    Writer,
)

GOOD = {"instructions": ["Spend\n little."], "outcome": 0.5, "cost": 1, "latency": 0, "tools": {}}


def answer(*rows: object) -> str:
    return f"<pairs>{json.dumps(rows)}</pairs>"


def write(
    catalogue: Catalogue, said: str, verdict: str = "<verdicts>[true]</verdicts>"
) -> FilteredProposals:
    async def ask(messages: Messages) -> str:
        return said

    async def check(messages: Messages) -> str:
        return verdict

    return asyncio.run(Writer(catalogue, True, ask, check, 10).write(1))


def test_a_good_answer_is_kept_on_one_line(simulated: Catalogue) -> None:
    written = write(simulated, answer(GOOD))
    assert written.kept == [Proposal("Spend little.", Weights(0.5, 1.0, 0.0))]
    assert not written.dropped and not written.fault


@pytest.mark.parametrize(
    ("said", "verdict", "reason"),
    [
        ("no list", "", Drop.MALFORMED),
        ("<pairs>{}</pairs>", "", Drop.MALFORMED),
        (f"<pairs>{'[' * 100_000}</pairs>", "", Drop.MALFORMED),
        (f"<think>{answer(GOOD)}</think>", "<verdicts>[true]</verdicts>", Drop.MALFORMED),
        (answer({**GOOD, "cost": "1"}), "", Drop.MALFORMED),
        (answer({**GOOD, "cost": float("nan")}), "", Drop.MALFORMED),
        (answer({**GOOD, "speed": 1}), "", Drop.MALFORMED),
        (answer({**GOOD, "outcome": 0, "cost": 0}), "", Drop.MALFORMED),
        (answer({**GOOD, "instructions": []}), "", Drop.MALFORMED),
        (answer({**GOOD, "instructions": ["word " * 61]}), "", Drop.MALFORMED),
        (answer({**GOOD, "instructions": ["a\x1b[2Jb"]}), "", Drop.MALFORMED),
        (answer({**GOOD, "instructions": ["Ask model-3."]}), "", Drop.NAME_LEAK),
        (answer(GOOD), "yes", Drop.MALFORMED),
        (answer(GOOD), "<verdicts>[1]</verdicts>", Drop.MALFORMED),
        (answer(GOOD), "<verdicts>[true, true]</verdicts>", Drop.MALFORMED),
        (answer(GOOD), "<verdicts>[false]</verdicts>", Drop.INCONSISTENT),
    ],
)
def test_what_cannot_be_a_pair_is_dropped_and_counted(
    simulated: Catalogue, said: str, verdict: str, reason: Drop
) -> None:
    written = write(simulated, said, verdict)
    assert not written.kept and set(written.dropped) == {reason}


def test_a_model_that_does_not_answer_is_given_up(simulated: Catalogue) -> None:
    async def never(messages: Messages) -> str:
        return await asyncio.get_running_loop().create_future()

    written = asyncio.run(Writer(simulated, True, never, never, 0.01).write(1_000))
    assert written.dropped == {Drop.FAILED: MOST_FAILURES}
    assert not written.kept and written.fault == "no answer in time"
