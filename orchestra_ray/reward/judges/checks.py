"""What judges need, looked at before a run starts an actor."""

from collections.abc import Iterable

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.reward.judges.llm import judging_entry
from orchestra_ray.reward.judges.rules import RULES
from orchestra_ray.tasks.source import OWN_SCORER, Source


def check_judges(config: Config, catalogue: Catalogue, sources: Iterable[Source]) -> None:
    """`ConfigError` where a task asks for a judge that cannot be had here."""
    sources = list(sources)
    asked = {name for source in sources for name in getattr(source, "judges", ())}
    if asked & RULES.keys() or config.judge.model is not None:
        judging_entry(catalogue, config.judge)
    if "code" in asked:
        from orchestra_ray.tools.sandbox import check

        if (why := check()) is not None:
            raise ConfigError(f"tasks: their judge runs programs: {why}")
    if OWN_SCORER in asked:
        # Inside: it imports the task families, which takes a second or two.
        from orchestra_ray.tools.family_scorer import require

        own = (source for source in sources if OWN_SCORER in getattr(source, "judges", ()))
        require(family for source in own for family in source.families)
