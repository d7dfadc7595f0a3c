"""The tool interface of the released checkpoint, from a user's copy of its tools.json.

The file's functions replace the catalogue's recipes of the same names, verbatim, so that the
checkpoint reads the prompt that it was trained on. The catalogue maps each choice to a model
(`configs/catalogues/orchestrator8b.yaml`); abilities, prices and latencies of the choices are
parsed from the description of the function's only parameter.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue.choices import MODEL
from orchestra_ray.data.catalogue.entries import Catalogue, Choice, Entry
from orchestra_ray.data.catalogue.prices import PriceRow, prices_of
from orchestra_ray.data.catalogue.schemas import BadSchema, check_schema

_LIST = re.compile(r"Choices: \[([^\]]*)\]\.?")
_ROW = re.compile(r"^(\S+) \| \$+([\d.]+) \| \$+([\d.]+) \| ([\d.]+) ?s$", re.MULTILINE)


def with_released_tools(catalogue: Catalogue, path: str | Path) -> Catalogue:
    """Returns the catalogue with the file's functions as recipes, in file order, after the rest."""
    where = f"tools file {path}"
    functions = _functions(where, path)
    tools = [_tool(where, signature, catalogue) for signature in functions]
    replaced = {tool.name for tool in tools}
    others = {name: entry for name, entry in catalogue.entries.items() if name not in replaced}
    return replace(catalogue, entries={**others, **{tool.name: tool for tool in tools}})


def _functions(where: str, path: str | Path) -> list[Mapping[str, Any]]:
    try:
        functions = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file; set catalogue.tools_json") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: not JSON ({error}); give the released tools.json") from None
    if not isinstance(functions, list) or not functions:
        raise ConfigError(f"{where}: not a list of functions; give the released tools.json")
    return functions


def _tool(where: str, signature: Any, catalogue: Catalogue) -> Entry:
    try:
        function = signature["function"]
        name, description = function["name"], function["description"]
        table = function["parameters"]["properties"][MODEL]["description"]
        names = re.findall(r"'([^']+)'", _LIST.search(table)[1])  # type: ignore[index]
    except (LookupError, TypeError):
        problem = f"a function without choices of its argument {MODEL}"
        raise ConfigError(f"{where}: {problem}; give the released tools.json") from None
    try:
        check_schema(function["parameters"])
    except BadSchema as error:
        raise ConfigError(f"{where}: {name}: parameters: {error}; {error.remedy}") from None
    recipe = catalogue.tools.get(name)
    if recipe is None or not recipe.choices:
        problem = f"the catalogue has no recipe {name}"
        raise ConfigError(f"{where}: {problem}; take orchestrator8b.yaml or add one") from None
    models = {choice.name: choice.model for choice in recipe.choices}
    terms = {row[0]: row[1:] for row in _ROW.findall(table)}
    abilities = _abilities(table, names)
    choices = []
    for choice in names:
        if choice not in models or choice not in terms:
            problem = "model in the catalogue" if choice in terms else "row in the table"
            raise ConfigError(f"{where}: {name}: {choice} has no {problem}; add it")
        price_in, price_out, latency_s = map(float, terms[choice])
        prices = PriceRow(input_usd_per_mtok=price_in, output_usd_per_mtok=price_out)
        model = models[choice]
        priced = prices_of(f"{where}: {name}: {choice}", prices, [model])
        choices.append(Choice(choice, model, abilities[choice], latency_s, priced))
    return replace(recipe, description=description, choices=tuple(choices), signature=signature)


def _abilities(table: str, names: list[str]) -> Mapping[str, str]:
    """Returns the text after each choice's name in the prose, up to the next name."""
    listed = _LIST.search(table)
    prose = table[listed.end() if listed else 0 :].partition("\n")[0]
    starts = sorted((prose.find(f"{name} "), name) for name in names)
    ends = [start for start, _ in starts[1:]] + [_end_of_prose(prose)]
    return {
        name: prose[max(start, 0) + len(name) : end].strip() if start >= 0 else ""
        for (start, name), end in zip(starts, ends, strict=True)
    }


def _end_of_prose(prose: str) -> int:
    introduction = re.search(r"The table below[^.]*:$", prose.rstrip())
    return introduction.start() if introduction else len(prose)
