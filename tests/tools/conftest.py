from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from orchestra_ray.catalogue import Entry, Kind, Limits
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest

from .scripts import BadServer, serve

MakeRequest = Callable[..., ToolRequest]
SEVEN_A_CALL = Prices(call_nanousd=7)


@pytest.fixture
def bad_server() -> Iterator[BadServer]:
    """One for a test, which may stop it."""
    yield from serve()


@pytest.fixture(scope="session")
def shared_bad_server() -> Iterator[BadServer]:
    yield from serve()


@pytest.fixture
def server(shared_bad_server: BadServer) -> BadServer:
    """The shared one, with nothing seen yet."""
    shared_bad_server.seen()
    return shared_bad_server


@pytest.fixture(scope="session")
def asker() -> Asker:
    return Asker(step=1, group_id="g", episode_id="g/0", turn=0)


@pytest.fixture(scope="session")
def make_request(asker: Asker) -> MakeRequest:
    """A request for an entry, as its draw offers it."""

    def make(
        entry: Entry, arguments: Mapping[str, Any] | None = None, call_id: str = "c", seed: int = 0
    ) -> ToolRequest:
        offer = Offer(entry.name, entry.name, entry.kind, "", entry.prices, entry.latency_s)
        task = Task("t", "family", "How much is 6 times 7?", {})
        return ToolRequest(call_id, asker, offer, arguments or {}, task, seed, 0)

    return make


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., Entry]:
    """A tool at 7 nano-dollars a call, with the given limits."""

    def make(name: str = "tool", prices: Prices = SEVEN_A_CALL, **limits: Any) -> Entry:
        given = {"retries": 0, "context_tokens": 100, "max_output_tokens": 100, "idempotent": True}
        given |= limits
        return Entry(name, Kind.TOOL, "", "null", prices, 0.0, Limits(**given))

    return make


@pytest.fixture
def entries(make_entry: Callable[..., Entry]) -> dict[str, Entry]:
    made = [make_entry("fast"), make_entry("slow"), make_entry("slow-once", idempotent=False)]
    made.append(make_entry("fast-one", concurrency=1))
    return {entry.name: entry for entry in made}
