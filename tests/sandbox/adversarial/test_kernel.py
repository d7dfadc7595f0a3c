"""Programs that reach for other processes, for rights, and for the kernel."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from orchestra_ray.sandbox.run import Limit, Outcome

Attack = Callable[..., Outcome]
on_x86_64 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers and the machine code are those of x86_64"
)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that no program may touch."""
    with subprocess.Popen(["sleep", "99"]) as process:
        yield process
        assert process.poll() is None
        process.kill()


def test_no_process_of_the_host_can_be_signalled(
    attack: Attack, bystander: subprocess.Popen[bytes]
) -> None:
    outcome = attack(
        f"""
pids = [{os.getpid()}, {os.getppid()}, {bystander.pid}, *range(3, 70000)]
print({{refused(os.kill, pid, 9) for pid in pids if pid != os.getpid()}})
"""
    )
    assert outcome.stdout.text == "{'ESRCH'}\n"


def test_killing_all_processes_kills_none_outside(
    attack: Attack, bystander: subprocess.Popen[bytes]
) -> None:
    outcome = attack("print(refused(os.kill, -1, 9))")
    assert outcome.stdout.text in ("ESRCH\n", "done\n")
    assert outcome.exit_code == 0


def test_the_first_process_cannot_be_killed_from_inside(attack: Attack) -> None:
    outcome = attack(
        """
print(os.getppid())
for number in (1, 2, 9, 11, 15, 19):
    os.kill(1, number)
time.sleep(0.2)
print("still here")
"""
    )
    assert outcome.stdout.text == "1\nstill here\n" and outcome.exit_code == 0


def test_no_group_of_the_host_can_be_signalled(attack: Attack) -> None:
    outcome = attack(f"print(refused(os.killpg, {os.getpgid(0)}, 9), os.getsid(0))")
    assert outcome.stdout.text == "ESRCH 1\n"


@pytest.mark.parametrize("way", ["exit", "wall", "crash"])
def test_a_daemon_does_not_outlive_the_run(
    attack: Attack, mark: str, bearers: Callable[[], list[psutil.Process]], way: str
) -> None:
    ends = {"exit": "", "wall": "time.sleep(99)", "crash": "ctypes.string_at(0)"}
    outcome = attack(
        f"""
read_end, write_end = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, 3)
        os.write(write_end, b"up")
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(99)", "{mark}"])
    os._exit(0)
print(os.read(read_end, 2), flush=True)
time.sleep(0.2)
{ends[way]}
""",
        wall_s=3.0,
    )
    assert outcome.stdout.text == "b'up'\n"
    assert (outcome.limit is Limit.WALL) == (way == "wall")
    assert bearers() == []


def test_nothing_can_be_traced(attack: Attack) -> None:
    outcome = attack(
        """
child = os.fork()
if child == 0:
    signal.pause()
word = ctypes.create_string_buffer(64)
for pid in (1, child):
    ctypes.set_errno(0)
    print(libc.ptrace(16, pid, 0, 0), errno.errorcode[ctypes.get_errno()])
    print(libc.process_vm_readv(pid, word, 1, word, 1, 0), errno.errorcode[ctypes.get_errno()])
"""
    )
    assert outcome.stdout.text == "-1 EPERM\n" * 4


def test_the_program_is_nobody_without_rights(attack: Attack) -> None:
    outcome = attack(
        """
header, data = (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)()
assert libc.capget(header, data) == 0
bounding = sum(libc.prctl(23, capability) == 1 for capability in range(64))
ambient = sum(libc.prctl(47, 1, capability, 0, 0) == 1 for capability in range(64))
print(os.getresuid(), os.getresgid(), [*data], bounding, ambient)
print("no new privileges", libc.prctl(39, 0, 0, 0, 0), "filter", libc.prctl(21))
"""
    )
    assert outcome.stdout.text.splitlines() == [
        f"{(65534,) * 3} {(65534,) * 3} {[0] * 6} 0 0",
        "no new privileges 1 filter 2",
    ]


@pytest.mark.parametrize(
    "call",
    [
        "os.setuid, 0",
        "os.setgid, 0",
        "os.setgroups, [0]",
        "os.setresuid, 0, 0, 0",
        "os.chown, 'program.py', 0, 0",
        "os.chroot, '/tmp'",
        "os.setpriority, os.PRIO_PROCESS, 0, -20",
        "os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)",
        "time.clock_settime, time.CLOCK_REALTIME, 0",
        "__import__('socket').sethostname, 'renamed'",
    ],
)
def test_a_right_is_refused(attack: Attack, call: str) -> None:
    outcome = attack(f"print(refused({call}))")
    assert outcome.stdout.text in ("EPERM\n", "EACCES\n", "EINVAL\n")


def test_a_setuid_bit_gives_nothing(attack: Attack) -> None:
    outcome = attack(
        """
import shutil, subprocess
shutil.copy(sys.executable, "python")
os.chmod("python", 0o6755)
environment = dict(os.environ, PYTHONHOME="/usr")
run = subprocess.run(["./python", "-c", "import os; print(os.getresuid())"], env=environment)
print(run.returncode)
"""
    )
    assert outcome.stdout.text.splitlines() == [f"{(65534,) * 3}", "0"]


@on_x86_64
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("unshare", "272, 0x10000000"),
        ("clone into a user namespace", "56, 0x10000011, 0, 0, 0, 0"),
        ("clone into a PID namespace", "56, 0x20000011, 0, 0, 0, 0"),
        ("setns", "308, 0, 0"),
        ("mount", "165, b'none', b'/tmp', b'tmpfs', 0, None"),
        ("umount", "166, b'/tmp', 2"),
        ("pivot_root", "155, b'/tmp', b'/tmp'"),
        ("open_tree", "428, -100, b'/', 1"),
        ("fsopen", "430, b'tmpfs', 0"),
        ("add_key", "248, b'user', b'name', b'value', 5, -3"),
        ("request_key", "249, b'user', b'name', None, -3"),
        ("keyctl", "250, 0, -3, 0"),
        ("bpf", "321, 0, None, 0"),
        ("perf_event_open", "298, None, 0, -1, -1, 0"),
        ("userfaultfd", "323, 0"),
        ("kcmp", "312, 1, 2, 0, 0, 0"),
        ("pidfd_getfd", "438, 0, 0, 0"),
        ("inotify_init1", "294, 0"),
    ],
    ids=lambda value: value if not value[0].isdigit() else "",
)
def test_a_system_call_is_filtered(attack: Attack, name: str, call: str) -> None:
    outcome = attack(f"print(refused(kernel_call, {call}))")
    assert outcome.stdout.text == "EPERM\n", name


@on_x86_64
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("reboot", "169, 0xFEE1DEAD, 672274793, 0x1234567, None"),
        ("init_module", "175, None, 0, b''"),
        ("kexec_load", "246, 0, 0, None, 0"),
        ("swapon", "167, b'/tmp/program.py', 0"),
        ("acct", "163, b'/tmp/program.py'"),
        ("settimeofday", "164, ctypes.create_string_buffer(16), None"),
        ("iopl", "172, 3"),
        ("vhangup", "153"),
    ],
    ids=lambda value: value if not value[0].isdigit() else "",
)
def test_a_system_call_takes_rights_that_it_has_not(attack: Attack, name: str, call: str) -> None:
    outcome = attack(f"print(refused(kernel_call, {call}))")
    assert outcome.stdout.text in ("EPERM\n", "ENOSYS\n"), name  # or the kernel lacks it


def test_clone3_is_not_there(attack: Attack) -> None:
    outcome = attack("print(refused(kernel_call, 435, ctypes.create_string_buffer(88), 88))")
    assert outcome.stdout.text == "ENOSYS\n"


@on_x86_64
def test_the_filter_cannot_be_passed_by_the_32_bit_calls(attack: Attack) -> None:
    outcome = attack(
        """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, getpid; int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print(call())
"""
    )
    assert outcome.stdout.text == "" and outcome.exit_code in (-31, -11)


@on_x86_64
def test_the_filter_cannot_be_passed_by_the_x32_calls(attack: Attack) -> None:
    outcome = attack("print(refused(kernel_call, 0x40000000 | 39))")
    assert outcome.stdout.text == "" and outcome.exit_code == -31


def test_nothing_can_be_typed_into_a_terminal(attack: Attack) -> None:
    outcome = attack(
        """
import fcntl
for fd in range(3):
    print(refused(fcntl.ioctl, fd, 0x5412, b"x"), end=" ")
print(refused(os.open, "/dev/tty", 0), refused(os.openpty))
"""
    )
    assert outcome.stdout.text == "ENOTTY ENOTTY ENOTTY ENOENT ENOENT\n"


def test_neither_the_hosts_name_nor_its_users_are_visible(attack: Attack) -> None:
    outcome = attack(
        """
import getpass, socket
print(socket.gethostname())
try:
    print(getpass.getuser())
except (KeyError, OSError):
    print("no user")
"""
    )
    assert outcome.stdout.text == "sandbox\nno user\n"


def test_no_other_program_can_be_started(attack: Attack) -> None:
    outcome = attack(
        """
import subprocess
for name in ("sh", "/bin/sh", "bwrap", "cat", "/usr/bin/env"):
    print(refused(subprocess.run, [name]), end=" ")
print(os.system("true") >> 8)
"""
    )
    assert outcome.stdout.text == "ENOENT ENOENT ENOENT ENOENT ENOENT 127\n"


@pytest.mark.usefixtures("sandboxes")
def test_the_program_dies_with_its_host(
    mark: str, bearers: Callable[[], list[psutil.Process]]
) -> None:
    """The executor's process is killed, so no process is left to end the run."""
    program = (
        "import os, sys; os.execv(sys.executable, [sys.executable, '-c', "
        f"'import time; time.sleep(99)', '{mark}'])"
    )
    host = f"""
import asyncio
from orchestra_ray.sandbox.run import Sandbox
from orchestra_ray.sandbox.command import SandboxLimits
asyncio.run(Sandbox(SandboxLimits(wall_s=60)).run({program!r}))
"""
    with subprocess.Popen([sys.executable, "-c", host]) as process:
        within(60, lambda: bearers() != [])
        running = bearers()
        process.kill()
    _, alive = psutil.wait_procs(running, timeout=60)
    assert not alive and not bearers()


def within(seconds: float, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.02)
