"""What a catalogue's entry lacks on this machine, in a line with what to do. Calls nothing."""

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from orchestra_ray.catalogue import Catalogue, Entry
from orchestra_ray.core.errors import ConfigError

NO_FAISS = "no faiss, which dense retrieval needs; pip install 'orchestra-ray[dense]'"


def lacking(catalogue: Catalogue) -> Mapping[str, str]:
    """Why an entry cannot be called here, by its name; what can be is not in it."""
    found = {name: _lacking(catalogue, entry) for name, entry in catalogue.entries.items()}
    return with_recipes(
        catalogue, {name: reason for name, reason in found.items() if reason is not None}
    )


def with_recipes(catalogue: Catalogue, reasons: Mapping[str, str]) -> Mapping[str, str]:
    """`reasons` by entry, and those of the recipes that lack what they are made of."""
    why = dict(reasons)
    for name, entry in catalogue.tools.items():
        needed = [entry.runs] if entry.runs is not None else []
        if entry.choices and all(choice.model in why for choice in entry.choices):
            needed += [choice.model for choice in entry.choices]
        absent = [other for other in needed if other in why]
        if absent and name not in why:
            why[name] = f"{name} cannot run without {', '.join(dict.fromkeys(absent))}"
    return why


def keys_of(catalogue: Catalogue) -> Mapping[str, list[str]]:
    """The environment variables that hold keys, with the entries that each is for."""
    keys: dict[str, list[str]] = {}
    for entry in catalogue.entries.values():
        name = entry.settings.get("api_key_env")
        if isinstance(name, str):
            keys.setdefault(name, []).append(entry.name)
    return keys


def is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def has_faiss() -> bool:
    return find_spec("faiss") is not None


def _lacking(catalogue: Catalogue, entry: Entry) -> str | None:
    # Inside: the rest must be there for who asks why the task families cannot be imported.
    from orchestra_ray.tools.toolbox import available, check_executors

    alone = replace(catalogue, entries={entry.name: entry})
    try:
        check_executors(alone)
    except ConfigError as error:
        return str(error)
    key = entry.settings.get("api_key_env")
    if key is not None and not is_set(key):
        return f"{entry.name} cannot be asked: {key} is not set; export it"
    corpus = entry.settings.get("corpus")
    if entry.executor == "search" and not Path(str(corpus)).expanduser().exists():
        return f"{entry.name} cannot search: there is no {corpus}; set settings.corpus"
    if entry.settings.get("dense") is not None and not has_faiss():
        return f"{entry.name} cannot search: {NO_FAISS}"
    lines = available(alone)[1]
    return lines[0] if lines else None
