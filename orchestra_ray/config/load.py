"""Loads a configuration: the schema's defaults, YAML files in order, `key=value` overrides.

Every error is a `ConfigError` of one line that names the file or override and the full key.
Relative paths of inputs are searched in the current directory, then in the folder of the
configuration file and its parents, so that a configuration inside a repository finds its catalogue
from any directory.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestra_ray.config.errors import BadValue, ConfigError
from orchestra_ray.config.schema import Config
from orchestra_ray.config.tree import typed_tree
from orchestra_ray.config.validation import check
from orchestra_ray.core.errors import first_line

_OVERRIDE = re.compile(r"[^\s=.]+(\.[^\s=.]+)*=")


@dataclass(frozen=True, slots=True)
class _Layer:
    """The values of one file or override, and its name."""

    source: str
    tree: Mapping[str, Any]

    def gives(self, key: str) -> bool:
        """Returns whether this layer sets `key` or a part of it; list indices do not count."""
        node: Any = self.tree
        for name in re.sub(r"\[\d+\]", "", key).split("."):
            if not isinstance(node, Mapping) or name not in node:
                return isinstance(node, list)
            node = node[name]
        return True


def load(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Returns the resolved and checked configuration; raises `ConfigError` for its first error."""
    layers = [_file_layer(Path(path)) for path in paths]
    layers += [_override_layer(text) for text in overrides]
    config = _merge(layers)
    try:
        _locate_inputs(config, [Path(path) for path in paths])
        check(config)
    except BadValue as error:
        raise _placed(error, layers) from None
    return config


def _file_layer(path: Path) -> _Layer:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give --config a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise ConfigError(f"{path}: cannot be read ({reason}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_mark(error)}; correct the YAML there") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error.full_key}: {first_line(error)}; correct it") from None
    return _typed(str(path), tree)


def _override_layer(text: str) -> _Layer:
    source = f"override {text!r}"
    if not _OVERRIDE.match(text):
        raise ConfigError(f"{source}: not key=value; write for example training.steps=10")
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{source}: {first_line(error)}; quote the value") from None
    return _typed(source, tree)


def _typed(source: str, tree: Any) -> _Layer:
    try:
        return _Layer(source, typed_tree(Config, tree))
    except BadValue as error:
        raise ConfigError(f"{source}: {error}") from None


def _merge(layers: Sequence[_Layer]) -> Config:
    merged = OmegaConf.merge(OmegaConf.structured(Config), *(layer.tree for layer in layers))
    files = ", ".join(layer.source for layer in layers) or "no file"
    try:
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            what = f"no value for {', '.join(missing)}"
            raise ConfigError(f"{files}: {what}; give it there or as an override")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{files}: {error.full_key}: {first_line(error)}; correct it") from None
    assert isinstance(config, Config)
    return config


def _locate_inputs(config: Config, files: Sequence[Path]) -> None:
    """Makes the paths of inputs absolute; raises `BadValue` if one does not exist."""
    catalogue = config.catalogue
    catalogue.path = _located("catalogue.path", catalogue.path, files)
    catalogue.price_sheets = [
        _located("catalogue.price_sheets", sheet, files) for sheet in catalogue.price_sheets
    ]
    if catalogue.tools_json is not None:
        catalogue.tools_json = _located("catalogue.tools_json", catalogue.tools_json, files)
    for key in ("path", "heldout_path"):
        file: str | None = getattr(config.tasks, key)
        if file is not None:
            setattr(config.tasks, key, _located(f"tasks.{key}", file, files))
    if catalogue.preferences_path is not None:
        key = "catalogue.preferences_path"
        catalogue.preferences_path = _located(key, catalogue.preferences_path, files)
    path = config.model.path
    if path is not None and (looks_local(path) or _find(path, files)):
        config.model.path = _located("model.path", path, files)


def looks_local(model_path: str) -> bool:
    """Returns whether the path can only be a folder; the Hub has `name` and `owner/name`."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", model_path) is None


def _located(key: str, text: str, files: Sequence[Path]) -> str:
    found = _find(text, files)
    if found is None:
        remedy = "give a path from this folder or from the configuration file's"
        raise BadValue(key, f"{text} does not exist", remedy)
    return str(found)


def _find(text: str, files: Sequence[Path]) -> Path | None:
    path = Path(text).expanduser()
    folders = [Path.cwd()]
    for file in reversed(files):
        folders += file.absolute().parents
    return next(
        (folder.joinpath(path).resolve() for folder in folders if (folder / path).exists()), None
    )


def _placed(error: BadValue, layers: Sequence[_Layer]) -> ConfigError:
    """Returns the error with the last layer that sets the key; none sets a default."""
    sources = [layer.source for layer in layers if layer.gives(error.key)]
    return ConfigError(f"{sources[-1]}: {error}") if sources else error


def _mark(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f":{mark.line + 1}:{mark.column + 1}: {error.problem}"
    return f": {first_line(error)}"
