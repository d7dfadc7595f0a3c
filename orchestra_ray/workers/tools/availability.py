"""What a catalogue's entry lacks on this machine, in a line with what to do.

Calls no tool; servers whose tools tell their own schemas are asked for them.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, Entry

NO_FAISS = "no faiss, which dense retrieval needs; pip install 'orchestra-ray[dense]'"


def lacking(catalogue: Catalogue) -> Mapping[str, str]:
    """Why an entry cannot be called here, by its name; what can be is not in it.

    A tool of a server's that is left out of those that an entry stands for has a name of its own.
    """
    found: dict[str, str] = {}
    for entry in catalogue.entries.values():
        found |= _lacking(catalogue, entry)
    return with_recipes(catalogue, found)


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


def left_out(catalogue: Catalogue) -> Iterator[tuple[str, str, bool]]:
    """Of each entry whose tools tell their own schemas: its name, what is amiss, whether all is.

    The second is empty where nothing is. Starts and asks servers that are commands or URLs.
    """
    from orchestra_ray.workers.tools.registry import available, has_no_schema

    for name, entry in catalogue.entries.items():
        if not has_no_schema(entry):
            continue
        try:
            absent = available(replace(catalogue, entries={name: entry}))[1]
        except ConfigError as error:
            yield name, str(error), True
        else:
            yield name, "; ".join(absent.values()), False


def keys_of(catalogue: Catalogue) -> Mapping[str, list[str]]:
    """The environment variables that hold keys, with the entries that each is for."""
    keys: dict[str, list[str]] = {}
    for entry in catalogue.entries.values():
        name = entry.settings.get("api_key_env")
        if isinstance(name, str):
            keys.setdefault(name, []).append(entry.name)
    return keys


def check_keys(catalogue: Catalogue) -> None:
    """`ConfigError` if the environment lacks a key that an entry asks for."""
    for key, names in keys_of(catalogue).items():
        if not is_set(key):
            problem = f"{', '.join(names)}: {key} is not set"
            raise ConfigError(f"catalogue: {problem}; export it, or leave them out")


def is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def has_faiss() -> bool:
    return find_spec("faiss") is not None


def _lacking(catalogue: Catalogue, entry: Entry) -> Mapping[str, str]:
    # Inside: the rest must be there for who asks why the task families cannot be imported.
    from orchestra_ray.workers.tools.registry import available, check_backends

    alone = replace(catalogue, entries={entry.name: entry})
    try:
        check_backends(alone)
    except ConfigError as error:
        return {entry.name: str(error)}
    if (missing := _missing(entry)) is not None:
        return {entry.name: missing}
    try:
        kept, absent = available(alone)
    except ConfigError as error:  # its server does not come up, say
        return {entry.name: str(error)}
    if absent and not kept.entries:
        return {entry.name: "; ".join(absent.values())}
    return absent


def _missing(entry: Entry) -> str | None:
    key = entry.settings.get("api_key_env")
    if key is not None and not is_set(key):
        return f"{entry.name} cannot be asked: {key} is not set; export it"
    corpus = entry.settings.get("corpus")
    if entry.backend == "search" and not Path(str(corpus)).expanduser().exists():
        return f"{entry.name} cannot search: there is no {corpus}; set settings.corpus"
    if entry.settings.get("dense") is not None and not has_faiss():
        return f"{entry.name} cannot search: {NO_FAISS}"
    return None
