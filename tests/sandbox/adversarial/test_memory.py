"""Programs that take more than their share of memory, and of the scratch that lies in it."""

from collections.abc import Callable

import psutil
import pytest

from orchestra_ray.sandbox.run import Limit, Outcome

Attack = Callable[..., Outcome]
MIB = 2**20


@pytest.mark.parametrize(
    "take",
    [
        "held = bytearray(10**9)",
        "held = []\nwhile True: held.append(bytes(2**20))",
        "held = list(range(10**8))",
        "import mmap; held = mmap.mmap(-1, 10**9)",
        "import mmap; held = mmap.mmap(-1, 10**9, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
    ],
    ids=["at once", "bit by bit", "objects", "shared mapping", "private mapping"],
)
def test_the_memory_of_one_process_is_bounded(attack: Attack, take: str) -> None:
    outcome = attack(
        f"""
import resource
try:
    exec({take!r})
except (MemoryError, OSError) as error:
    held = None
    print(type(error).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    )
    error, peak_kib = outcome.stdout.text.split()
    assert error in ("MemoryError", "OSError") and int(peak_kib) < 256 * 1024


def test_memory_held_by_many_processes_ends_the_run(
    attack: Attack, mark: str, bearers: Callable[[], list[psutil.Process]]
) -> None:
    outcome = attack(
        f"""
hold = "import sys, time; held = bytearray(b'x') * (60 * 2**20); time.sleep(99)"
for _ in range(8):
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", hold, "{mark}"])
time.sleep(99)
"""
    )
    assert outcome.limit is Limit.MEMORY
    assert bearers() == []


@pytest.mark.parametrize(
    ("take", "answer"),
    [
        ("os.memfd_create, 'held'", "EPERM"),
        ("kernel_call, 447, 0", "EPERM"),  # memfd_secret
        ("kernel_call, 29, 0, 2**30, 0o1600", "EPERM"),  # shmget
        ("kernel_call, 68, 0, 0o1600", "EPERM"),  # msgget
        ("kernel_call, 64, 0, 100, 0o1600", "EPERM"),  # semget
        ("kernel_call, 240, b'held', 0o100, 0o600, None", "EPERM"),  # mq_open
        ("kernel_call, 425, 1, ctypes.create_string_buffer(200)", "EPERM"),  # io_uring_setup
        ("kernel_call, 149, ctypes.create_string_buffer(2**20), 2**20", "EPERM"),  # mlock
    ],
    ids=["memfd", "secret memfd", "shm", "msg", "sem", "mqueue", "io_uring", "mlock"],
)
def test_memory_that_no_process_limit_counts_is_refused(
    attack: Attack, take: str, answer: str
) -> None:
    outcome = attack(f"print(refused({take}))")
    assert outcome.stdout.text == f"{answer}\n"


def test_the_scratch_holds_what_it_is_to_hold(attack: Attack) -> None:
    outcome = attack(
        """
written = 0
try:
    for number in range(99):
        with open(f"part{number}", "wb", buffering=0) as file:
            for _ in range(4):
                written += file.write(bytes(2**20))
except OSError as error:
    print(errno.errorcode[error.errno], written)
"""
    )
    error, written = outcome.stdout.text.split()
    assert error == "ENOSPC" and 14 * MIB < int(written) <= 16 * MIB


def test_shared_memory_is_a_part_of_the_scratch(attack: Attack) -> None:
    outcome = attack(
        """
from multiprocessing import shared_memory
held = shared_memory.SharedMemory(create=True, size=12 * 2**20)
held.buf[:] = bytes(len(held.buf))
with open("more", "wb", buffering=0) as file:
    print(file.write(bytes(8 * 2**20)) < 5 * 2**20, flush=True)
os._exit(0)
"""
    )
    assert outcome.stdout.text == "True\n"


def test_a_sparse_file_cannot_be_larger_than_the_scratch(attack: Attack) -> None:
    outcome = attack("print(refused(os.truncate, os.open('s', os.O_CREAT | os.O_RDWR), 2**40))")
    assert outcome.stdout.text == "EFBIG\n"


def test_a_file_cannot_grow_past_its_limit_by_seeking(attack: Attack) -> None:
    outcome = attack("print(refused(os.pwrite, os.open('s', os.O_CREAT | os.O_RDWR), b'x', 2**40))")
    assert outcome.stdout.text == "EFBIG\n"


@pytest.mark.parametrize(
    "make",
    [
        "open(str(number), 'w').close()",
        "os.mkdir('d'); os.chdir('d')",
        "os.symlink('x', str(number))",
        "held = os.open('.', os.O_TMPFILE | os.O_RDWR); os.link('program.py', str(number))",
        "os.mkfifo(str(number))",
    ],
    ids=["small files", "deep folders", "symlinks", "hard links", "pipes"],
)
def test_files_without_end_end_the_run(attack: Attack, make: str) -> None:
    outcome = attack(
        f"""
number = 0
while True:
    number += 1
    try: {make}
    except OSError: time.sleep(60)  # at another limit: what is there is still too much
    if number % 200 == 0:
        time.sleep(0.01)
""",
        open_files=1024,
        cpu_s=30,
    )
    assert outcome.limit is Limit.FILES, outcome.stderr.text


def test_a_zip_bomb_fills_the_scratch_and_no_more(attack: Attack) -> None:
    outcome = attack(
        """
import zipfile
with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
    with bomb.open("big", "w") as member:
        for _ in range(64):
            member.write(bytes(2**20))
print(os.path.getsize("bomb.zip") < 2**20)
print(refused(zipfile.ZipFile("bomb.zip").extractall), os.path.getsize("big") <= 16 * 2**20)
"""
    )
    first, second = outcome.stdout.text.splitlines()
    assert first == "True" and second in ("EFBIG True", "ENOSPC True")


def test_a_compressed_bomb_does_not_fill_memory(attack: Attack) -> None:
    outcome = attack(
        """
import zlib
packer = zlib.compressobj(1)
bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()
try:
    zlib.decompress(bomb)
except MemoryError:
    print("no memory for it")
""",
        cpu_s=20,
    )
    assert outcome.stdout.text == "no memory for it\n"
