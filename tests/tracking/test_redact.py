"""Planted secrets are redacted, and nothing else."""

import io
import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.states import Stop
from orchestra_ray.tracking.redact import RedactingFormatter, Redactor, protect_logs
from orchestra_ray.tracking.secret_forms import MARK

SECRET = "sk-planted/0+secret"


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "HF_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS", "apikey", "MY_TOKEN2"]
)
def test_values_of_variables_with_a_secret_name_are_hidden(name: str) -> None:
    assert Redactor.of({name: SECRET}).text(f"a {SECRET} b") == f"a {MARK} b"


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "HOME", "KEYBOARD", "RAY_AUTH_MODE"])
def test_values_of_other_variables_stay(name: str) -> None:
    assert Redactor.of({name: SECRET}).text(SECRET) == SECRET


def test_short_values_stay_because_they_would_garble_every_text() -> None:
    assert Redactor.of({"USE_TOKEN": "1", "A_KEY": ""}).text("1 of 10") == "1 of 10"


def test_a_secret_that_begins_another_leaves_no_rest_behind() -> None:
    redactor = Redactor.of({"A_KEY": "abcdef", "B_KEY": "abcdefghijkl"})
    assert redactor.text("abcdefghijkl") == MARK


def test_each_line_of_a_secret_of_many_lines_is_hidden() -> None:
    redactor = Redactor.of({"TLS_KEY": "-----BEGIN-----\nMIIEpLine1\nMIIEpLine2\n"})
    assert "MIIEp" not in redactor.text("read MIIEpLine1 then\nMIIEpLine2")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.text(),
)
def test_cleaned_values_are_strict_json_without_the_secret(value: object, around: str) -> None:
    redactor = Redactor.of({"A_KEY": SECRET})
    planted = {"value": value, around + SECRET: [{"deep": f"{around}{SECRET}{around}"}]}
    written = json.dumps(redactor.clean(planted), allow_nan=False)
    assert SECRET not in written and json.dumps(SECRET)[1:-1] not in written


def test_clean_keeps_what_json_can_say() -> None:
    value = {
        "n": 1,
        "x": 0.5,
        "t": True,
        "none": None,
        "np": np.float32(0.25),
        "count": np.int64(3),
        "state": Stop.LENGTH,
        "pair": (1, 2),
    }
    assert Redactor.of({}).clean(value) == {
        "n": 1,
        "x": 0.5,
        "t": True,
        "none": None,
        "np": 0.25,
        "count": 3,
        "state": "length",
        "pair": [1, 2],
    }


def test_numbers_that_json_lacks_become_strings_that_float_reads() -> None:
    clean = Redactor.of({}).clean([float("nan"), float("inf"), -np.inf, np.float32("nan")])
    assert clean == ["NaN", "Infinity", "-Infinity", "NaN"]
    assert float(clean[2]) == float("-inf")


def test_log_lines_and_tracebacks_are_redacted() -> None:
    logger = logging.getLogger("orchestra_ray.tests.redact")
    logger.propagate = False
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    others = [one for one in logging.getLogger().handlers]
    formatters = [one.formatter for one in others]
    try:
        protect_logs(Redactor.of({"OLD_KEY": "an old secret"}))
        protect_logs(Redactor.of({"A_KEY": SECRET}))
        try:
            raise ValueError(f"refused {SECRET}")
        except ValueError:
            logger.exception("calling with %s", SECRET)
    finally:
        logger.removeHandler(handler)
        for one, formatter in zip(others, formatters, strict=True):
            one.setFormatter(formatter)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().startswith(f"ERROR calling with {MARK}")
    assert f"ValueError: refused {MARK}" in stream.getvalue()
    assert isinstance(handler.formatter, RedactingFormatter)
    assert not isinstance(handler.formatter.inner, RedactingFormatter)
