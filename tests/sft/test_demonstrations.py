import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from orchestra_ray.config import Config
from orchestra_ray.data.catalogue import Catalogue, model_aliases
from orchestra_ray.data.preferences.load import load_preferences
from orchestra_ray.sft.demonstrations import Demonstrator
from orchestra_ray.workers.rollout.chat import Chat


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
            offered = demonstrations.group(n).toolset
            assert offered.option(asked) is None
    assert faults


def test_the_thought_says_again_what_the_prompt_says(
    quickstart: Config, catalogue: Catalogue, chat: Chat
) -> None:
    demonstrations = demonstrator(quickstart, catalogue, aliases=True)
    topics = {family.name: family.topic for family in quickstart.tasks.families}
    for n in range(40):
        group = demonstrations.group(n)
        (demonstration,) = demonstrations.make(chat, n)
        prompt, _, said = chat.decode(demonstration.tokens).partition("<think>\n")
        listed, named, choice = said.partition("\n</think>")[0].split("\n")
        described = dict(re.findall(r"^(model-\d+): ([^;]+);", prompt, re.MULTILINE))
        for entry in listed.removeprefix("good at ").split("; "):
            assert entry == strong_models(entry.partition(":")[0], described)
        assert named == "named " + strong_models(topics[group.task.family], described)
        instruction = group.preference.instruction.rstrip(".")
        assert choice.startswith(f"{instruction} ")
        role, _, alias = choice.removeprefix(f"{instruction} ").partition(": ")
        if role not in ("tool", "other"):
            assert role.removeprefix("named ") in described[alias]


def strong_models(word: str, described: Mapping[str, str]) -> str:
    names = [alias for alias, words in described.items() if word in re.split(r"[ ,]+", words)]
    return f"{word}: {', '.join(names) or 'none'}"


def test_a_specialist_is_good_at_anything_and_a_generalist_stays_one(
    quickstart: Config, catalogue: Catalogue
) -> None:
    demonstrations = demonstrator(quickstart, catalogue, aliases=True)
    described: dict[str, set[str]] = {name: set() for name in catalogue.models}
    for n in range(80):
        for option in demonstrations.group(n).toolset.options:
            if option.kind == "model":
                described[option.identity].add(option.description)
    topics = {family.topic for family in quickstart.tasks.families}
    for name, entry in catalogue.models.items():
        if entry.description in topics:
            assert described[name] >= topics
        else:
            assert described[name] == {entry.description}


def test_a_family_without_a_topic_names_no_model(
    quickstart: Config, catalogue: Catalogue, chat: Chat
) -> None:
    first, *rest = quickstart.tasks.families
    tasks = replace(quickstart.tasks, families=[replace(first, topic=""), *rest])
    demonstrations = demonstrator(replace(quickstart, tasks=tasks), catalogue, aliases=True)
    for n in range(0, 80, len(tasks.families)):
        (demonstration,) = demonstrations.make(chat, n)
        assert "named : none\n" in chat.decode(demonstration.tokens)
        options = demonstrations.group(n).toolset.options
        assert all(option.description for option in options)
