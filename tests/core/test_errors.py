import pytest

from orchestra_ray.core.errors import first_line


@pytest.mark.parametrize(
    ("text", "line"), [("a\nb", "a"), ("\n  a \nb", "a"), ("", "ValueError"), (" \n", "ValueError")]
)
def test_the_first_line_is_never_empty(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line
