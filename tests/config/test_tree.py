"""Raw trees against the schema: a tree that does not fit raises nothing but `BadValue`."""

from dataclasses import fields, is_dataclass

from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config
from orchestra_ray.config.tree import typed_tree


def schema_names(record: type) -> set[str]:
    names = set()
    for field in fields(record):
        names.add(field.name)
        if isinstance(field.default_factory, type) and is_dataclass(field.default_factory):
            names |= schema_names(field.default_factory)
    return names


NAMES = st.sampled_from(sorted(schema_names(Config) | {"tiny", "shape", "layers", "outcome"}))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, TREES, max_size=3))
def test_a_tree_either_fits_the_schema_or_is_a_bad_value_of_one_line(raw):
    try:
        tree = typed_tree(Config, raw)
    except BadValue as error:
        assert "\n" not in str(error)
    else:
        OmegaConf.merge(OmegaConf.structured(Config), tree)


@given(st.text(min_size=1).filter(lambda name: name not in schema_names(Config)))
def test_an_unknown_key_is_refused_under_its_full_name(name):
    try:
        typed_tree(Config, {"learner": {"loss": {name: 1}}})
    except BadValue as error:
        assert error.key == f"learner.loss.{name}"
    else:
        raise AssertionError(f"{name} was taken")
