from collections.abc import Iterator

import pytest

from .scripts import BadServer, serve


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
