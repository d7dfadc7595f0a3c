import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.tools.search.strings import Strings, write_strings


@given(st.lists(st.text(), min_size=1).filter(any))
def test_strings_come_back_as_they_were_written(written: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strings"
        write_strings(path, iter(written))
        strings = Strings(path)
        assert list(strings) == written
        assert strings[1:3] == written[1:3]


def test_a_position_outside_is_an_index_error(tmp_path: Path) -> None:
    write_strings(tmp_path / "strings", ["one"])
    strings = Strings(tmp_path / "strings")
    for position in (1, -1):
        with pytest.raises(IndexError):
            strings[position]
