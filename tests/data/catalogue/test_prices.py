import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import NANOUSD_PER_USD, Usage
from orchestra_ray.data.catalogue import load_catalogue
from orchestra_ray.data.catalogue.prices import OFFICIAL_USD_PER_MTOK, PriceRow, prices_of

GPT5 = """models:
  - {name: gpt-5, description: d, backend: endpoint, prices: {PRICES}}
"""


def test_a_million_input_tokens_of_gpt5_cost_a_dollar_and_a_quarter() -> None:
    prices = prices_of("here", PriceRow(input_usd_per_mtok=1.25, output_usd_per_mtok=10), ["gpt-5"])
    assert prices.cost_nanousd(Usage(input_tokens=10**6)) == 5 * NANOUSD_PER_USD // 4
    assert prices.cost_nanousd(Usage(output_tokens=10**6)) == 10 * NANOUSD_PER_USD


@given(
    name=st.sampled_from(sorted(OFFICIAL_USD_PER_MTOK)),
    factor=st.sampled_from([1e-6, 1e-3, 0.1, 10.0, 100.0, 1e3, 1e6, 1e9]),
    dress=st.sampled_from(["{}", "openai/{}", "{}-2025-08-07", "Azure/{}-20250807"]),
)
def test_a_known_models_price_in_another_unit_is_caught(
    name: str, factor: float, dress: str
) -> None:
    price_in, price_out = OFFICIAL_USD_PER_MTOK[name]
    prices_of("here", PriceRow(price_in, None, price_out), [dress.format(name)])
    for row in (
        PriceRow(price_in * factor, None, price_out),
        PriceRow(0, None, price_out * factor),
    ):
        with pytest.raises(ConfigError, match="give dollars per million tokens"):
            prices_of("here", row, [dress.format(name)])


@given(usd=st.floats(0.01, 9.99))
def test_any_models_price_per_thousand_or_per_token_is_caught(usd: float) -> None:
    prices_of("here", PriceRow(usd, None, usd), ["mine"])
    for unit in (1e3, 1e6):
        with pytest.raises(ConfigError, match="outside 0.01 to 1000"):
            prices_of("here", PriceRow(usd / unit), ["mine"])


def test_a_price_of_nothing_is_a_price() -> None:
    assert prices_of("here", PriceRow(), ["gpt-5"]).cost_nanousd(Usage(input_tokens=10**9)) == 0


@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        ("input_usd_per_mtok: 0.00125", "input_usd_per_mtok is 0.00125, outside 0.01 to 1000"),
        ("input_usd_per_mtok: 0.125", "is 0.125, where gpt-5 costs 1.25; give dollars per million"),
        ("input_usd_per_ktok: 0.00125", "dollars per million: multiply by 1,000; the keys"),
        ("input_usd_per_1k: 0.00125", "multiply by 1,000; the keys of prices are input_usd_per"),
        ("input_cost_per_token: 1.25e-6", "multiply a price per token by 1,000,000"),
        ("input_tokens_per_million: 1.25e-6", "multiply a price per token by 1,000,000"),
        ("input: 1.25", "prices.input: no such key; the keys of prices are input_usd_per_mtok"),
        ("input_usd_per_mtok: -1", "input_usd_per_mtok is -1; it cannot be negative"),
        ("input_usd_per_mtok: .nan", "input_usd_per_mtok is nan; it should be a finite number"),
        ("call_usd: .inf", "prices.call_usd is inf; it should be a finite number"),
        ("call_usd: yes", "prices.call_usd is True; it should be a valid number"),
        ("call_usd: '1'", "prices.call_usd is '1'; it should be a valid number"),
        ("input_usd_per_mtok: 1, cached_usd_per_mtok: 2", "cached_usd_per_mtok is 2, outside"),
    ],
)
def test_a_bad_price_is_named(write, prices: str, problem: str) -> None:
    path = write(GPT5.replace("PRICES", prices))
    with pytest.raises(ConfigError) as error:
        load_catalogue(path)
    message = str(error.value)
    assert f"catalogue {path}: gpt-5: " in message and problem in message and "\n" not in message


def test_the_name_that_the_endpoint_knows_is_checked_too(write) -> None:
    named = GPT5.replace("gpt-5", "mine").replace("PRICES", "output_usd_per_mtok: 1")
    load_catalogue(write(named))
    with pytest.raises(ConfigError, match="mine: prices.output.* is 1, where gpt-5 costs 10"):
        load_catalogue(write(named.replace("endpoint", "endpoint, settings: {model: gpt-5}")))
