"""Checks the requirements of graders and judges before a run starts an actor."""

from collections.abc import Iterable

from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.source import OWN_SCORER, Source
from orchestra_ray.workers.reward.judges.llm import judge_entry
from orchestra_ray.workers.reward.judges.rules import RULES


def check_graders(config: Config, catalogue: Catalogue, sources: Iterable[Source]) -> None:
    """Raises `ConfigError` if a task names a grader that is not available here."""
    sources = list(sources)
    named = {name for source in sources for name in getattr(source, "judges", ())}
    if named & RULES.keys() or config.judge.model is not None:
        judge_entry(catalogue, config.judge)
    if "code" in named:
        from orchestra_ray.sandbox.run import check

        if (why := check()) is not None:
            raise ConfigError(f"tasks: the grader code runs programs: {why}")
    if OWN_SCORER in named:
        # Imported here, as the task families take 1-2 s to import.
        from orchestra_ray.sandbox.family_scorer import require

        own = (source for source in sources if OWN_SCORER in getattr(source, "judges", ()))
        require(family for source in own for family in source.families)
