"""Programs that read what is not theirs, and write where they may not."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra_ray.sandbox.run import Outcome

Attack = Callable[..., Outcome]
REPOSITORY = Path(__file__).parents[3]


HIDDEN = (
    "/etc/passwd",
    "/etc/shadow",
    "/root",
    "/root/.ssh",
    "/home",
    str(Path.home()),
    str(REPOSITORY),
    "/proc/1/environ",
    "/proc/self/environ",
    "/proc/self/mem",
    "/proc/self/fd",
    "/proc/cmdline",
    "/proc/mounts",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/kcore",
    "/sys",
    "/sys/fs/cgroup",
    "/dev/mem",
    "/dev/kmsg",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/fuse",
    "/dev/vsock",
    "/run",
    "/var/run/docker.sock",
    "/bin/sh",
    "/usr/bin/su",
    "/usr/bin/env",
)


def test_the_hosts_paths_are_not_there(attack: Attack) -> None:
    outcome = attack(
        f"""
for path in {HIDDEN!r}:
    print(path, refused(os.stat, path), refused(os.open, path, os.O_RDONLY))
"""
    )
    expected = [f"{path} ENOENT ENOENT" for path in HIDDEN]
    assert outcome.stdout.text.splitlines() == expected


def test_the_devices_are_the_harmless_ones(attack: Attack) -> None:
    outcome = attack("print(*sorted(os.listdir('/dev')))")
    assert outcome.stdout.text == "full null random shm urandom zero\n"


def test_a_file_of_the_hosts_temporary_folder_is_not_there(attack: Attack, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    outcome = attack(f"print(refused(open, {str(secret)!r}), os.listdir('/tmp'))")
    assert outcome.stdout.text == "ENOENT ['program.py']\n"


def test_no_secret_is_in_the_environment(
    attack: Attack, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", mark)
    outcome = attack(
        """
variables = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
number = 0
while variables[number]:
    print(variables[number].decode())
    number += 1
print(os.environ)
"""
    )
    assert "HOME=/tmp" in outcome.stdout.text
    assert mark not in outcome.stdout.text and "OPENAI" not in outcome.stdout.text


def test_no_secret_is_in_the_programs_memory(
    attack: Attack, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """The stack above the environment is what the kernel copied when the interpreter started."""
    monkeypatch.setenv("OPENAI_API_KEY", mark)
    outcome = attack(
        """
variables = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, "__environ")
start = ctypes.cast(variables, ctypes.c_void_p).value & ~4095
pages = []
for page in range(start, start + 2**20, 4096):
    if libc.msync(ctypes.c_void_p(page), 4096, 1) != 0:
        break
    pages.append(ctypes.string_at(page, 4096))
stack = b"".join(pages)
print(b"RLIMIT_NPROC=16:16" in stack, b"OPENAI" in stack)
"""
    )
    assert outcome.stdout.text == "True False\n", outcome.stderr.text


def test_no_descriptor_is_inherited(attack: Attack, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    os.set_inheritable(folder, True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        outcome = attack("print([fd for fd in range(4096) if refused(os.fstat, fd) == 'done'])")
    os.close(folder)
    assert outcome.stdout.text == "[0, 1, 2]\n"


def test_stdin_is_empty(attack: Attack) -> None:
    assert attack("print(repr(sys.stdin.read()), os.isatty(0))").stdout.text == "'' False\n"


def test_only_the_scratch_can_be_written(attack: Attack) -> None:
    outcome = attack(
        """
folders = [folder for folder, *_ in os.walk("/")]
probe = lambda folder: os.open(folder + "/probe", os.O_CREAT | os.O_WRONLY)
print(len(folders) > 50, [f for f in folders if refused(probe, f) != "EROFS"])
"""
    )
    assert outcome.stdout.text == "True ['/tmp']\n"


def test_the_interpreter_cannot_be_changed(attack: Attack) -> None:
    outcome = attack(
        """
for path in (os.__file__, sys.executable, "/usr/lib/libc.so.6"):
    print(refused(open, path, "r+"), refused(os.unlink, path), refused(os.chmod, path, 0o777))
"""
    )
    answers = outcome.stdout.text.split()
    assert len(answers) == 9 and set(answers) <= {"EROFS", "EACCES", "EPERM", "ETXTBSY"}


def test_the_scratch_cannot_be_moved_away(attack: Attack) -> None:
    outcome = attack("print(refused(os.rename, '/tmp', '/usr/t'), refused(os.rmdir, '/tmp'))")
    assert set(outcome.stdout.text.split()) <= {"EROFS", "EBUSY"}


@pytest.mark.parametrize("aim", ["/etc/passwd", "/proc/1/root/etc/passwd", "../../../etc/passwd"])
def test_a_symlink_leads_nowhere(attack: Attack, aim: str) -> None:
    outcome = attack(f"os.symlink({aim!r}, 'way'); print(refused(open, 'way'))")
    assert outcome.stdout.text == "ENOENT\n"


def test_a_symlink_to_a_file_of_the_host_does_not_overwrite_it(
    attack: Attack, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("the host's")
    aim = str(tmp_path / "file")
    outcome = attack(f"os.symlink({aim!r}, 'way'); print(refused(open, 'way', 'w'))")
    assert outcome.stdout.text == "ENOENT\n"
    assert (tmp_path / "file").read_text() == "the host's"


def test_no_hard_link_crosses_into_the_scratch(attack: Attack) -> None:
    outcome = attack("print(refused(os.link, os.__file__, '/tmp/os.py'))")
    assert outcome.stdout.text == "EXDEV\n"


def test_no_file_is_opened_by_its_handle(attack: Attack) -> None:
    outcome = attack(
        """
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("value", ctypes.c_char * 128)]
handle, mount = Handle(size=128), ctypes.c_int()
def check(answer):
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")
reference = ctypes.byref(handle)
name_to = lambda: check(libc.name_to_handle_at(-100, b"/usr", reference, ctypes.byref(mount), 0))
open_by = lambda: check(libc.open_by_handle_at(os.open("/", 0), reference, 0))
print(refused(name_to), refused(open_by))
"""
    )
    assert outcome.stdout.text == "EPERM EPERM\n"


def test_a_device_cannot_be_made(attack: Attack) -> None:
    outcome = attack(
        """
import stat
disk, memory = os.makedev(8, 0), os.makedev(1, 1)
print(refused(os.mknod, "disk", stat.S_IFBLK | 0o600, disk))
print(refused(os.mknod, "mem", stat.S_IFCHR | 0o600, memory))
"""
    )
    assert outcome.stdout.text == "EPERM\nEPERM\n"


def test_an_archive_cannot_unpack_outside(attack: Attack) -> None:
    outcome = attack(
        """
import io, tarfile
held = io.BytesIO()
with tarfile.open(fileobj=held, mode="w") as archive:
    archive.addfile(tarfile.TarInfo("../usr/lib/planted"))
held.seek(0)
print(refused(tarfile.open(fileobj=held).extractall), os.path.exists("/usr/lib/planted"))
"""
    )
    assert outcome.stdout.text == "EROFS False\n"


def test_two_runs_at_once_share_neither_scratch_nor_shared_memory(
    attacks: Callable[..., list[Outcome]],
) -> None:
    meet = """
from multiprocessing import shared_memory
before = sorted(os.listdir("/tmp")), sorted(os.listdir("/dev/shm"))
open("/tmp/left", "w").write("a message")
shared_memory.SharedMemory("meeting", create=True, size=4096)
print(before, time.time(), flush=True)
time.sleep(2)
print(time.time(), flush=True)
os._exit(0)
"""
    outcomes = attacks(meet, meet)
    seen = [outcome.stdout.text.split() for outcome in outcomes]
    assert [words[:2] for words in seen] == [["(['program.py'],", "['program.py'])"]] * 2
    assert float(seen[0][2]) < float(seen[1][3]) and float(seen[1][2]) < float(seen[0][3])
