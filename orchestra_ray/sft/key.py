"""The cache key of the tiny policy: a digest of the inputs of its warm start.

These are the code that makes and renders the demonstrations, the model's dimensions, the training
tasks, the catalogue as toolsets show it, the corpora of its searches, and the users' instructions.
Paths, judges, limits, and entries outside every toolset are no part of it, so that checkouts share
a policy and a change of those keeps it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import Preference
from orchestra_ray.data.catalogue import Catalogue, Entry, signatures, toolset
from orchestra_ray.workers.rollout import chat, context, parsing

_MODULES = (signatures, toolset, chat, context, parsing)
_OF_CALLS = ("limits", "version", "skill", "output_tokens", "isolation", "parser", "settings")
_OF_TOOLSETS = ("models_min", "models_max", "aliases", "price_factors", "latency_factors", "submit")
_OF_CONTEXTS = ("context", "rebuild_system", "rebuild_instruction", "max_observation_tokens")


def policy_key(config: Config, catalogue: Catalogue, preferences: Sequence[Preference]) -> str:
    """Returns 16 hexadecimal digits."""
    entries, tasks = _entries(catalogue), config.tasks
    described = [_described(entry) for entry in entries]
    words = json.dumps(described, sort_keys=True, default=str)
    parts = {
        "model": asdict(config.model.tiny) if config.model.tiny else None,
        "tasks": [[asdict(f) for f in tasks.families], tasks.train_seed, tasks.train_size],
        "draws": [getattr(config.catalogue, name) for name in _OF_TOOLSETS],
        "entries": described,
        # A description that names a model of the catalogue is shown without the name.
        "names": [name for name in sorted(catalogue.models) if name in words],
        "sheets": [[asdict(sheet.of(entry)) for entry in entries] for sheet in catalogue.sheets],
        "corpora": [_corpus(entry) for entry in entries],
        "instructions": [preference.instruction for preference in preferences],
        "context": [str(getattr(config.rollout, name)) for name in _OF_CONTEXTS],
    }
    files = sorted(Path(__file__).parent.glob("*.py"))
    files += [Path(str(module.__file__)) for module in _MODULES]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _entries(catalogue: Catalogue) -> list[Entry]:
    """Returns the entries on offer, and those that the recipes among them use."""
    offered = [*catalogue.offered_models, *catalogue.offered_tools]
    names = dict.fromkeys(entry.name for entry in offered)
    for tool in catalogue.offered_tools:
        names |= dict.fromkeys(choice.model for choice in catalogue.choices_of(tool))
        names |= dict.fromkeys([tool.runs] if tool.runs else [])
    return [catalogue.entries[name] for name in names]


def _described(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name not in _OF_CALLS}


def _corpus(entry: Entry) -> list[Any]:
    """Returns a search's settings, with the content of the corpus in place of its path."""
    if entry.backend != "search":
        return []
    settings = {k: v for k, v in entry.settings.items() if k not in ("corpus", "cache_dir")}
    corpus = Path(str(entry.settings.get("corpus", ""))).expanduser()
    files = [path for path in (corpus, *sorted(corpus.rglob("*"))) if path.is_file()]
    return [settings, [_digest_of(path) for path in files]]


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
