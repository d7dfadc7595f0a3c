"""Programs that use the network, each in a way that reaches a listener outside the sandbox."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra_ray.sandbox.run import Outcome

Attack = Callable[..., Outcome]


def test_a_listener_on_loopback_is_not_reached(attack: Attack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # from here it can be
            listener.accept()[0].close()
        outcome = attack(
            f"import socket; print(refused(socket.create_connection, ('127.0.0.1', {port})))"
        )
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert outcome.stdout.text == "EACCES\n"


def test_no_datagram_gets_out(attack: Attack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        outcome = attack(
            f"""
import socket
def send():
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", {listener.getsockname()[1]}))
print(refused(send))
"""
        )
        with pytest.raises(BlockingIOError):
            listener.recv(10)
    assert outcome.stdout.text == "EACCES\n"


@pytest.mark.parametrize("family", ["AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"])
def test_no_other_family_has_a_socket(attack: Attack, family: str) -> None:
    """Of these AF_VSOCK, to the hypervisor, is one that a network namespace does not close."""
    outcome = attack(f"import socket; print(refused(socket.socket, socket.{family}))")
    assert outcome.stdout.text == "EACCES\n"


def test_no_raw_socket(attack: Attack) -> None:
    outcome = attack(
        "import socket; print(refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1))"
    )
    assert outcome.stdout.text == "EACCES\n"


def test_no_name_is_looked_up(attack: Attack) -> None:
    outcome = attack(
        """
import socket
try:
    print(socket.getaddrinfo("example.com", 80))
except socket.gaierror:
    print("no answer")
"""
    )
    assert outcome.stdout.text == "no answer\n"


def test_no_page_is_fetched(attack: Attack) -> None:
    outcome = attack(
        """
import urllib.request
try:
    urllib.request.urlopen("http://127.0.0.1:80", timeout=2)
except OSError as error:
    print(error.reason.errno == errno.EACCES)
"""
    )
    assert outcome.stdout.text == "True\n"


def test_an_abstract_unix_socket_of_the_host_is_not_there(attack: Attack, mark: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{mark}")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as from_here:
            from_here.connect(f"\0{mark}")
        outcome = attack(
            f"""
import socket
print(refused(socket.socket(socket.AF_UNIX).connect, "\\0{mark}"))
"""
        )
    assert outcome.stdout.text == "ECONNREFUSED\n"


def test_a_unix_socket_of_the_hosts_files_is_not_there(attack: Attack, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        outcome = attack(
            f"import socket; print(refused(socket.socket(socket.AF_UNIX).connect, {path!r}))"
        )
    assert outcome.stdout.text == "ENOENT\n"


def test_two_runs_do_not_meet_in_the_abstract_namespace(attack: Attack) -> None:
    bind = """
import socket
held = socket.socket(socket.AF_UNIX)
held.bind("\\0meeting")
print("bound")
"""
    assert [attack(bind).stdout.text for _ in range(2)] == ["bound\n", "bound\n"]


def test_an_event_loop_still_works(attack: Attack) -> None:
    outcome = attack("import asyncio; asyncio.run(asyncio.sleep(0)); print('ran')")
    assert outcome.stdout.text == "ran\n", outcome.stderr.text
