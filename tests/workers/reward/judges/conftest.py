"""A judging model behind a real endpoint, what it was sent, and groups of answers for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import (
    EpisodeSpec,
    GroupSpec,
    Preference,
    Task,
    ToolsetSample,
    Trajectory,
)
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits

MakeGroup = Callable[..., tuple[GroupSpec, list[Trajectory]]]


@dataclass
class Endpoint:
    """`reply` is given the prompt and the number of prompts before it; None: a status of 500."""

    reply: Callable[[str, int], str | None]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    pause_s: float = 0.0

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(
                    line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line
                )
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.bodies.append(body)
                number = len(self.bodies) - 1
                await asyncio.sleep(self.pause_s)
                said = self.reply(self.prompts[number], number)
                answer = {
                    "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 10},
                }
                text = json.dumps(answer if said is not None else {"error": "out of order"})
                status = 200 if said is not None else 500
                writer.write(
                    f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _serving(reply: Callable[[str, int], str | None]) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(reply)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield endpoint


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """`async with serving(reply) as endpoint`."""
    return _serving


@pytest.fixture(scope="session")
def judging_catalogue() -> Callable[..., Catalogue]:
    """One model behind the endpoint, at 1,000 nano-dollars a call; as warm as an expert may be."""

    def make(url: str, **limits: Any) -> Catalogue:
        settings = {"base_urls": [url], "model": "judging-model", "temperature": 0.7}
        entry = Entry(
            name="grader",
            kind=Kind.MODEL,
            description="compares answers",
            backend="endpoint",
            prices=Prices(call_nanousd=1_000),
            latency_s=1.0,
            limits=Limits(**({"retries": 0, "deadline_s": 20.0} | limits)),
            settings=settings,
            offered=False,
        )
        return Catalogue({"grader": entry}, "sheet@1")

    return make


@pytest.fixture(scope="session")
def make_group() -> MakeGroup:
    def make(task: Task, *answers: str | None, name: str = "g") -> tuple[GroupSpec, list]:
        ids = [f"{name}/{i}" for i in range(len(answers))]
        preference = Preference("p", "Be right.", 1.0, 0.0, 0.0)
        episodes = tuple(EpisodeSpec(one, 0) for one in ids)
        group = GroupSpec(name, 3, task, ToolsetSample(0, ()), preference, episodes)
        nothing = np.zeros(0, dtype=np.int32)
        trajectories = [
            Trajectory(
                one, nothing, nothing > 0, nothing * 1.0, nothing, (), (), answer, Stop.ANSWERED
            )
            for one, answer in zip(ids, answers, strict=True)
        ]
        return group, trajectories

    return make
