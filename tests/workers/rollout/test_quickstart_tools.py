"""The quick start's own tools, asked by a policy and run for real: sandbox, search, calculator."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestra_ray.config import Config
from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.toolset import sample_toolset
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import context_of
from orchestra_ray.workers.rollout.episode import run_episode
from orchestra_ray.workers.rollout.parsing import parse_hermes

from .acting import Direct, EpisodeContext, Script, tool_call_text


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("calculator", {"expression": "6 * 7"}, "42"),
        ("python", {"code": "print(6 * 7)"}, "42"),
        ("search", {"query": "primes"}, "prime"),
    ],
)
def test_a_tool_of_the_quick_start_answers(
    request: pytest.FixtureRequest,
    chat: Chat,
    catalogue: Catalogue,
    quickstart: Config,
    sampler: GroupSampler,
    local_spend: Callable[[], Any],
    tool: str,
    arguments: dict[str, str],
    expected: str,
) -> None:
    if tool == "python":
        request.getfixturevalue("sandbox_here")
    present = replace(
        catalogue,
        entries={name: replace(e, presence=1.0) for name, e in catalogue.entries.items()},
    )
    toolset = sample_toolset(present, CatalogueConfig(path="", aliases=False), 0)
    group = replace(sampler.group(0, 1), toolset=toolset)
    script = Script(chat, [tool_call_text(tool, arguments), "done"])

    async def main() -> Any:
        episode_context = EpisodeContext(
            chat,
            context_of(chat, quickstart.rollout, submit=False),
            parse_hermes,
            {"model": script},
            Direct(present, local_spend()),
            quickstart.model,
            quickstart.rollout,
            "sheet",
        )
        return await run_episode(episode_context, group, group.episodes[0])

    _, summary = asyncio.run(main())
    assert summary.calls == {tool: 1}
    assert expected in chat.decode(script.prompts[-1])
