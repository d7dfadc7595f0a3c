"""The read-only root folder of every sandbox: a Python interpreter and the files that it loads.

The folder is a copy, made once for each interpreter and user, rather than mounts of the host's
folders:
- A sandbox started by root runs as the user nobody, which cannot read an interpreter in root's
  home.
- Only the libraries that Python loads are included.
- No path of the host is visible, so a program's output is the same on every node.
- One mount is faster than forty.
"""

import compileall
import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestra_ray.sandbox import init as sandbox_init

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
INTERPRETER = f"/usr/bin/{PYTHON}"
LIBRARIES = "/usr/lib"
PACKAGES = "/usr/packages"
DEVICES = ("null", "zero", "full", "random", "urandom")
LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "config-*", "idlelib", "ensurepip")
LEFT_OUT += ("tkinter", "turtledemo", "lib2to3", "_tkinter*", "nis.*", "_test*", "*.opt-?.pyc")


def root_folder(packages: Sequence[str] = ()) -> Path:
    """Returns the folder, and creates it if needed. packages: names of installed distributions."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    cache.chmod(0o755)
    root = cache / _name(packages)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the executors of a node start together
        if not root.exists():
            draft = cache / "draft"
            shutil.rmtree(draft, ignore_errors=True)
            _fill(draft, packages)
            draft.rename(root)
    return root


def cache_folder() -> Path:
    """Returns the folder of the copies, which is writable by its owner and readable by all."""
    if os.geteuid() == 0:
        return Path("/var/cache/orchestra_ray")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra_ray"


def _host_interpreter() -> str:
    """Returns the base interpreter of the virtual environment."""
    return os.path.realpath(os.path.join(sys.base_exec_prefix, "bin", PYTHON))


def _name(packages: Sequence[str]) -> str:
    """Returns a name that depends on the interpreter, the packages, and this code."""
    python = _host_interpreter()
    about = os.stat(python)
    versions = [(name, importlib.metadata.version(name)) for name in packages]
    key = repr((python, sys.version, about.st_size, about.st_mtime_ns, versions))
    own = b"".join(Path(file).read_bytes() for file in (__file__, sandbox_init.__file__))
    digest = hashlib.sha256(own + key.encode()).hexdigest()
    return f"root-{digest[:16]}"


def _fill(root: Path, packages: Sequence[str]) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    target = _inside(root, f"/usr/{sys.platlibdir}/{PYTHON}")
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(stdlib, target, ignore=ignore, ignore_dangling_symlinks=True)
    _copy(_host_interpreter(), _inside(root, INTERPRETER))
    modules = [stdlib / copy.relative_to(target) for copy in target.rglob("*.so")]
    for name in packages:
        modules += _add_package(root, name)
    copied = {str(module) for module in modules}  # packages contain libraries
    for path, source in _libraries([_host_interpreter(), *modules]):
        if os.path.normpath(source) not in copied:
            _copy(source, _inside(root, path))
    _add_mount_points(root)
    _copy(sandbox_init.__file__, _inside(root, f"{PACKAGES}/sitecustomize.py"))
    compileall.compile_dir(root, quiet=2)  # the root is read-only, so runs cannot cache bytecode
    for path in (root, *root.rglob("*")):  # independent of any umask
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))


def _add_package(root: Path, name: str) -> list[Path]:
    """Copies a distribution's files; returns the compiled ones."""
    files = [file for file in importlib.metadata.files(name) or [] if ".." not in file.parts]
    for file in files:
        _copy(file.locate(), _inside(root, f"{PACKAGES}/{file}"))
    return [Path(str(file.locate())) for file in files if ".so" in file.suffixes]


def _libraries(binaries: Sequence[str | Path]) -> Iterator[tuple[str, str]]:
    """Yields the path in the sandbox and on the host of each shared library that they load."""
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True)
    for name, path in set(re.findall(r"^\s+(\S+)(?: => (/\S+))? \(0x", done.stdout, re.MULTILINE)):
        if name.startswith("/"):  # the loader, which binaries refer to by path
            yield name, path or name
        elif path:
            yield f"{LIBRARIES}/{name}", path
            unwinder = os.path.join(os.path.dirname(path), "libgcc_s.so.1")
            if name.startswith("libc.so") and os.path.exists(unwinder):  # loaded when a thread ends
                yield f"{LIBRARIES}/libgcc_s.so.1", unwinder


def _add_mount_points(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "dev").mkdir()
    for device in DEVICES:
        (root / "dev" / device).touch()
    (root / "dev" / "shm").symlink_to("/tmp")  # for named semaphores, within the scratch's size


def _copy(source: str | os.PathLike[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
