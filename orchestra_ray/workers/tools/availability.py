"""Reports why a catalogue entry cannot be called on this machine, in one line with the remedy.

No tool is called. A server is contacted only if the catalogue leaves schemas to its tools.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, Entry

NO_FAISS = "no faiss, which dense retrieval needs; pip install 'orchestra-ray[dense]'"


def unavailable_entries(catalogue: Catalogue) -> Mapping[str, str]:
    """Maps the name of each entry that cannot be called here to the reason.

    If an entry stands for all tools of a server, a rejected tool is listed under its own name.
    """
    found: dict[str, str] = {}
    for entry in catalogue.entries.values():
        found |= _lacking(catalogue, entry)
    return with_recipes(catalogue, found)


def with_recipes(catalogue: Catalogue, reasons: Mapping[str, str]) -> Mapping[str, str]:
    """Returns why entries are unavailable, by name: `reasons`, and those of recipes.

    A recipe is unavailable if the tool that it runs is, or all of its models are.
    """
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
    """Yields (name, problem, failed) for each entry whose tools tell their own schemas.

    problem: empty if there is none. failed: no tool of the entry can be used. Starts or contacts
    the servers.
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
    """Maps each environment variable that holds a key to the names of its entries."""
    keys: dict[str, list[str]] = {}
    for entry in catalogue.entries.values():
        name = entry.settings.get("api_key_env")
        if isinstance(name, str):
            keys.setdefault(name, []).append(entry.name)
    return keys


def check_keys(catalogue: Catalogue) -> None:
    """Raises `ConfigError` if the environment lacks a key that an entry needs."""
    for key, names in keys_of(catalogue).items():
        if not is_set(key):
            problem = f"{', '.join(names)}: {key} is not set"
            raise ConfigError(f"catalogue: {problem}; export it, or leave them out")


def is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def has_faiss() -> bool:
    return find_spec("faiss") is not None


def _lacking(catalogue: Catalogue, entry: Entry) -> Mapping[str, str]:
    # Imported here: the doctor uses this module even if the task families cannot be imported.
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
    except ConfigError as error:  # for example, its server does not start
        return {entry.name: str(error)}
    if absent and not kept.entries:
        return {entry.name: "; ".join(absent.values())}
    return absent


def _missing(entry: Entry) -> str | None:
    key = entry.settings.get("api_key_env")
    if key is not None and not is_set(key):
        return f"{entry.name} cannot be called: {key} is not set; export it"
    corpus = entry.settings.get("corpus")
    if entry.backend == "search" and not Path(str(corpus)).expanduser().exists():
        return f"{entry.name} cannot search: {corpus} does not exist; correct settings.corpus"
    if entry.settings.get("dense") is not None and not has_faiss():
        return f"{entry.name} cannot search: {NO_FAISS}"
    return None
