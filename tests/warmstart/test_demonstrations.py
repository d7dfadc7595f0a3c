from dataclasses import replace

import pytest

from orchestra_ray.catalogue import Catalogue, model_aliases
from orchestra_ray.catalogue.preferences import load_preferences
from orchestra_ray.config import Config
from orchestra_ray.rollout.chat import Chat
from orchestra_ray.warmstart.demonstrations import Demonstrator


def demonstrator(config: Config, catalogue: Catalogue, aliases: bool) -> Demonstrator:
    config = replace(config, catalogue=replace(config.catalogue, aliases=aliases))
    return Demonstrator(config, catalogue, load_preferences(config.catalogue))


def test_with_aliases_no_demonstration_names_a_model(
    quickstart: Config, catalogue: Catalogue, chat: Chat
) -> None:
    demonstrations = demonstrator(quickstart, catalogue, aliases=True)
    for n in range(60):
        (demonstration,) = demonstrations.make(chat, n)
        said = chat.decode(demonstration.tokens) + " ".join(demonstrations.texts(n))
        said = said.replace(demonstrations.group(n).task.question, "")  # may hold any word
        assert "model-1" in said
        assert not [name for name in catalogue.models if name in said]


@pytest.mark.parametrize("aliases", [True, False])
def test_a_model_that_is_not_on_offer_is_asked_by_a_name_that_one_can_have(
    quickstart: Config, catalogue: Catalogue, chat: Chat, aliases: bool
) -> None:
    demonstrations = demonstrator(quickstart, catalogue, aliases)
    config = replace(quickstart.catalogue, aliases=aliases)
    faults = 0
    for n in range(120):
        (demonstration,) = demonstrations.make(chat, n)
        said = chat.decode(demonstration.tokens)
        _, fault, rest = said.partition("error: there is no model ")
        if fault:
            faults += 1
            asked = rest.partition(";")[0]
            assert asked in model_aliases(catalogue, config)
            offered = demonstrations.group(n).draw
            assert offered.offer(asked) is None
    assert faults
