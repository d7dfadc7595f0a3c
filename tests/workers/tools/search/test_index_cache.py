import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.index_cache import MANIFEST, digest, open_cached

# Opens a folder when its standard input says so; if it is to build it, says so and waits again.
BUILDER = """
import os, sys
from pathlib import Path
from orchestra_ray.workers.tools.search.index_cache import open_cached

def build(partial):
    (partial / "data").write_text("whole")
    print("building", flush=True)
    sys.stdin.readline()

print("ready", flush=True)
sys.stdin.readline()
print((open_cached(Path(sys.argv[1]), build) / "data").read_text(), flush=True)
"""


def build(folder: Path) -> None:
    (folder / "data").write_text("whole")
    (folder / "more").write_bytes(bytes(1_000))


def refuse(folder: Path) -> None:
    raise AssertionError("built again")


class Builder:
    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.says() == "ready"

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"go\n")

    def says(self, timeout_s: float = 60.0) -> str | None:
        """The next line, or None where none comes in time."""
        assert self.process.stdout
        readable, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        return self.process.stdout.readline().decode().strip() if readable else None

    def end(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


def test_a_whole_folder_is_not_built_again(tmp_path: Path) -> None:
    folder = open_cached(tmp_path / "deep" / "folder", build)
    assert open_cached(folder, refuse) == folder
    assert (folder / "data").read_text() == "whole"


def test_who_asks_during_a_build_waits_for_it_and_does_not_build(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    first, second = Builder(folder), Builder(folder)
    first.go()
    assert first.says() == "building"
    second.go()
    assert second.says(timeout_s=1.0) is None
    assert not folder.exists()
    first.go()
    assert (first.says(), second.says()) == ("whole", "whole")
    assert (first.end(), second.end()) == (0, 0)


def test_what_a_killed_builder_left_is_built_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    killed, waiting = Builder(folder), Builder(folder)
    killed.go()
    assert killed.says() == "building"
    waiting.go()
    killed.process.kill()
    assert killed.end() == -signal.SIGKILL
    assert waiting.says() == "building"
    waiting.go()
    assert (waiting.says(), waiting.end()) == ("whole", 0)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "folder.lock"}


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no manifest", "half a manifest"])
def test_a_damaged_folder_is_built_again(tmp_path: Path, damage: str) -> None:
    folder = open_cached(tmp_path / "folder", build)
    match damage:
        case "cut":
            os.truncate(folder / "more", 500)
        case "changed":
            (folder / "more").write_bytes(bytes(999) + b"1")
        case "gone":
            (folder / "data").unlink()
        case "no manifest":
            (folder / MANIFEST).unlink()
        case _:
            os.truncate(folder / MANIFEST, 20)
    open_cached(folder, build)
    assert (folder / "data").read_text() == "whole"
    assert (folder / "more").read_bytes() == bytes(1_000)
    open_cached(folder, refuse)


def test_a_build_that_fails_leaves_nothing_and_can_be_done_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise ConfigError("a bad line")

    with pytest.raises(ConfigError, match="a bad line"):
        open_cached(tmp_path / "folder", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.lock"]
    open_cached(tmp_path / "folder", build)


def test_a_cache_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cache_dir"):
        open_cached(tmp_path / "file" / "folder", build)


def test_a_digest_depends_on_names_contents_and_settings_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("text")
    two.write_text("text")
    os.utime(two, ns=(0, 0))
    same = digest({"a": one}, limit=1)
    assert digest({"a": two}, limit=1) == same
    two.write_text("Text")
    changed = [
        digest({"b": one}, limit=1),
        digest({"a": two}, limit=1),
        digest({"a": one}, limit=2),
    ]
    assert len({same, *changed}) == 4


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing: No such file"):
        digest({"a": tmp_path / "missing"})
