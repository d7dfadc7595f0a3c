"""Programs that take more than their share of processes, time and open files."""

from collections.abc import Callable

import psutil

from orchestra_ray.sandbox.run import Limit, Outcome

Attack = Callable[..., Outcome]


def test_a_fork_bomb_ends_with_the_wall_limit(
    attack: Attack, mark: str, bearers: Callable[[], list[psutil.Process]]
) -> None:
    outcome = attack(
        f"""
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            sleep = "import time; time.sleep(99)"
            os.execv(sys.executable, [sys.executable, "-c", sleep, "{mark}"])
    except OSError:
        pass
""",
        wall_s=1.5,
    )
    assert outcome.limit is Limit.WALL and outcome.wall_s < 30
    assert bearers() == []


def test_a_childs_forks_count_too(attack: Attack) -> None:
    outcome = attack(
        """
read_end, write_end = os.pipe()
def fork_all(depth):
    while True:
        try:
            if os.fork() == 0:
                os.write(write_end, b"+")
                fork_all(depth + 1)
        except OSError:
            if depth == 0:
                return
            signal.pause()
fork_all(0)
time.sleep(0.3)
print(len(os.read(read_end, 1000)), refused(os.fork))
"""
    )
    assert outcome.stdout.text == "14 EAGAIN\n"  # 16 with process 1 and the program


def test_threads_count_as_processes(attack: Attack) -> None:
    outcome = attack(
        """
import threading
started = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        started += 1
except RuntimeError as error:
    print(started, error, flush=True)
os._exit(0)
"""
    )
    assert outcome.stdout.text == "14 can't start new thread\n"


def test_orphans_are_reaped_and_do_not_use_up_the_processes(attack: Attack) -> None:
    outcome = attack(
        """
for _ in range(100):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
    while refused(os.waitpid, -1, 0) == "done":
        pass
print("all of them")
"""
    )
    assert outcome.stdout.text == "all of them\n", outcome.stderr.text


def test_a_busy_loop_ends_with_the_cpu_limit(attack: Attack) -> None:
    outcome = attack("while True: pass", cpu_s=1)
    assert outcome.limit is Limit.CPU and outcome.exit_code is None


def test_ignoring_the_cpu_limit_gains_a_second(attack: Attack) -> None:
    outcome = attack(
        """
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
    pass
""",
        cpu_s=1,
    )
    assert outcome.exit_code == -9


def test_a_huge_number_ends_with_the_cpu_limit(attack: Attack) -> None:
    """One call of the interpreter's own, which no handler of Python's could interrupt."""
    assert attack("x = 7 ** (10**8)", cpu_s=1).limit is Limit.CPU


def test_a_regular_expression_without_end_ends_with_the_cpu_limit(attack: Attack) -> None:
    assert attack("import re; re.match('(a*)*b', 'a' * 60)", cpu_s=1).limit is Limit.CPU


WAITS = (
    "time.sleep(99)",
    "[signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)]; time.sleep(99)",
    "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(99)",
    "import atexit; atexit.register(time.sleep, 99)",
    "import threading; threading.Thread(target=time.sleep, args=(99,)).start()",
    "os.closerange(0, 3); time.sleep(99)",
    "os.mkfifo('pipe'); open('pipe').read()",
    "os.kill(os.getpid(), signal.SIGSTOP)",
)


def test_a_waiting_program_ends_with_the_wall_limit(attacks: Callable[..., list[Outcome]]) -> None:
    outcomes = attacks(*(f"print('begins', flush=True)\n{wait}" for wait in WAITS), wall_s=2.5)
    for wait, outcome in zip(WAITS, outcomes, strict=True):
        assert outcome.limit is Limit.WALL and 2.5 <= outcome.wall_s < 30, wait
        assert outcome.stdout.text == "begins\n", wait


def test_open_files_are_bounded(attack: Attack) -> None:
    outcome = attack(
        """
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], len(held))
"""
    )
    assert outcome.stdout.text == "EMFILE 29\n"  # 32 with the three that it is given


def test_no_limit_can_be_raised(attack: Attack) -> None:
    outcome = attack(
        """
import resource
names = ("AS", "CORE", "CPU", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RTPRIO")
for name in names:
    which = getattr(resource, f"RLIMIT_{name}")
    soft, hard = resource.getrlimit(which)
    for wanted in ((soft, hard + 1), (soft, resource.RLIM_INFINITY)):
        try:
            resource.setrlimit(which, wanted)
            print(name, "was raised")
        except (ValueError, PermissionError):
            pass
print(len(names), "stand")
"""
    )
    assert outcome.stdout.text == "8 stand\n"


def test_recursion_without_end_is_the_programs_own_crash(attack: Attack) -> None:
    outcome = attack(
        """
sys.setrecursionlimit(10**9)
nested = ()
for _ in range(10**6):
    nested = (nested,)
print("before", flush=True)
hash(nested)
"""
    )
    assert outcome.stdout.text == "before\n" and outcome.exit_code == -11


def test_a_crash_leaves_no_core(attack: Attack) -> None:
    outcome = attack(
        """
child = os.fork()
if child == 0:
    ctypes.string_at(0)
status = os.waitpid(child, 0)[1]
print(os.WTERMSIG(status), os.WCOREDUMP(status), os.listdir("/tmp"))
"""
    )
    assert outcome.stdout.text == "11 False ['program.py']\n"
