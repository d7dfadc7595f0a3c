from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.cli.tables import add_row, exact_usd, plain_table, show


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=5))
def test_dollars_are_exact_and_aligned(amounts: list[int]) -> None:
    texts = exact_usd(amounts)
    assert [Fraction(text.replace(",", "")) * 10**9 for text in texts] == amounts
    assert len({len(text.partition(".")[2]) for text in texts}) == 1


def test_dollars_have_two_decimals_at_least() -> None:
    assert exact_usd([0, 1_234_500_000_000]) == ["0.00", "1,234.50"]
    assert exact_usd([1, 10**9]) == ["0.000000001", "1.000000000"]


def test_what_looks_like_markup_is_printed_as_it_is_and_whole(capsys) -> None:
    table = plain_table(["name"], ["figure"])
    add_row(table, ["[red]nova[/red] " + "x" * 120, "1"], bold=True)
    show(table)
    assert "[red]nova[/red] " + "x" * 120 in capsys.readouterr().out
