"""What judges need, looked at before a run starts an actor."""

from collections.abc import Iterable

from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.source import OWN_SCORER, Source
from orchestra_ray.workers.reward.judges.llm import judging_entry
from orchestra_ray.workers.reward.judges.rules import RULES


def check_judges(config: Config, catalogue: Catalogue, sources: Iterable[Source]) -> None:
    """`ConfigError` where a task asks for a judge that cannot be had here."""
    sources = list(sources)
    asked = {name for source in sources for name in getattr(source, "judges", ())}
    if asked & RULES.keys() or config.judge.model is not None:
        judging_entry(catalogue, config.judge)
    if "code" in asked:
        from orchestra_ray.sandbox.run import check

        if (why := check()) is not None:
            raise ConfigError(f"tasks: their judge runs programs: {why}")
    if OWN_SCORER in asked:
        # Inside: it imports the task families, which takes a second or two.
        from orchestra_ray.sandbox.family_scorer import require

        own = (source for source in sources if OWN_SCORER in getattr(source, "judges", ()))
        require(family for source in own for family in source.families)
