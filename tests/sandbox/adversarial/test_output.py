"""Programs with huge, endless or unreadable output."""

import resource
from collections.abc import Callable

import pytest

from orchestra_ray.sandbox.command import SandboxLimits
from orchestra_ray.sandbox.run import Limit, Outcome
from orchestra_ray.workers.tools.builtin.python import described

Attack = Callable[..., Outcome]
KEPT = SandboxLimits()


@pytest.mark.parametrize(
    "write",
    [
        "print('spam')",
        "sys.stdout.write('x')",
        "os.write(1, b'x' * 2**20)",
        "os.write(1, bytes(9))",
    ],
    ids=["lines", "no newline", "large", "zeros"],
)
def test_endless_stdout_is_cut_and_ends_the_run(attack: Attack, write: str) -> None:
    outcome = attack(f"while True: {write}")
    assert outcome.limit is Limit.OUTPUT
    assert outcome.stdout.cut and len(outcome.stdout.text) == KEPT.stdout_bytes
    assert outcome.stdout.size_bytes > 2**20


def test_endless_stderr_is_cut_and_ends_the_run(attack: Attack) -> None:
    outcome = attack("while True: print('spam' * 100, file=sys.stderr)")
    assert outcome.limit is Limit.OUTPUT
    assert outcome.stderr.cut and len(outcome.stderr.text) == KEPT.stderr_bytes


def test_both_streams_at_once_do_not_wait_for_each_other(attack: Attack) -> None:
    outcome = attack(
        """
for number in range(2000):
    os.write(1, b"o" * 300)
    os.write(2, b"e" * 300)
print("end")
"""
    )
    assert outcome.exit_code == 0
    assert outcome.stdout.size_bytes == 600_004 and outcome.stderr.size_bytes == 600_000


def test_a_flood_of_output_does_not_fill_our_memory(attack: Attack) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = attack("while True: os.write(1, b'x' * 2**24)", output_mib=100)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert outcome.limit is Limit.OUTPUT and outcome.stdout.size_bytes > 100 * 2**20
    assert grown_kib < 16 * 1024


def test_the_first_of_stdout_and_the_last_of_stderr_are_kept(attack: Attack) -> None:
    outcome = attack(
        """
for stream in (sys.stdout, sys.stderr):
    stream.write("first" + "x" * 100_000 + "last")
"""
    )
    assert outcome.stdout.text.startswith("first") and outcome.stdout.text.endswith("x")
    assert outcome.stderr.text.startswith("x") and outcome.stderr.text.endswith("last")
    text = described(outcome, KEPT)
    assert "[stdout cut: the first 16384 of 100009 bytes]" in text
    assert "[stderr cut: the last 4096 of 100009 bytes]" in text


def test_bytes_that_are_no_text_become_text(attack: Attack) -> None:
    outcome = attack("os.write(1, bytes(range(256)) + b'\\xf0\\x9f'); os.write(2, b'\\xff')")
    assert outcome.stdout.size_bytes == 258
    text = described(outcome, KEPT)
    text.encode()
    assert "ABC" in text and "\N{REPLACEMENT CHARACTER}" in text


def test_escapes_for_a_terminal_reach_nobody(attack: Attack) -> None:
    outcome = attack(
        r"print('\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b5n \x08\r\x7f \u202eabc\u202c \x00end')"
    )
    text = described(outcome, KEPT)
    assert "title" in text and "end" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_lone_surrogates_cannot_be_printed_into_the_answer(attack: Attack) -> None:
    outcome = attack(r"sys.stdout.reconfigure(errors='surrogatepass'); print('\ud800')")
    described(outcome, KEPT).encode()
    assert outcome.stdout.size_bytes == 4


def test_a_descendant_cannot_print_after_the_end(attack: Attack) -> None:
    outcome = attack(
        """
if os.fork() == 0:
    os.setsid()
    time.sleep(15)
    os.write(1, b"late")
print("in time")
"""
    )
    assert outcome.stdout.text == "in time\n" and outcome.wall_s < 15


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(7)", 7),
        ("sys.exit(137)", 137),
        ("sys.exit(-1)", 255),
        ("sys.exit('why')", 1),
        ("os._exit(255)", 255),
        ("raise SystemExit(2)", 2),
        ("1 / 0", 1),
        ("os.abort()", -6),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("ctypes.string_at(0)", -11),
    ],
)
def test_the_exit_code_is_the_programs(attack: Attack, leave: str, code: int) -> None:
    outcome = attack(f"print('said', flush=True)\n{leave}")
    assert outcome.exit_code == code and outcome.limit is None
    assert outcome.stdout.text == "said\n"
