"""Samples groups in order, with a cursor for checkpoints.

Group n of a run (its task, toolset, preference and seeds) is a pure function of the run's seed and
n. Its preference is one that its toolset can serve. Training and evaluation have separate samplers,
with preferences from `load_preferences` and `load_heldout_preferences`.
"""

import random
from collections.abc import Sequence
from functools import lru_cache

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.policy_names import MODEL
from orchestra_ray.core.records import EpisodeSpec, GroupSpec, Preference
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue, sample_toolset
from orchestra_ray.data.preferences.load import servable
from orchestra_ray.data.tasks.source import Source


class GroupSampler:
    """Samples groups: families in turn, tasks in a seeded order within each.

    Every task of a finite source is sampled once per epoch.
    """

    def __init__(
        self,
        source: Source,
        catalogue: Catalogue,
        config: CatalogueConfig,
        preferences: Sequence[Preference],
        seed: int,
    ):
        self._source, self._catalogue, self._config = source, catalogue, config
        self._preferences, self._seed = preferences, seed
        self.cursor = 0

    def next_group(self, episodes: int, step: int) -> GroupSpec:
        """Returns the group at the cursor, with ids unique in the run, and advances the cursor."""
        group = self.group(self.cursor, episodes, step=step)
        self.cursor += 1
        return group

    def group(
        self,
        n: int,
        episodes: int,
        policy: str = MODEL,
        prefix: str = "train",
        greedy: bool = False,
        step: int = 0,
    ) -> GroupSpec:
        """Returns group n; task, toolset, preference and seeds depend on n and the seed only."""
        families = len(self._source.families)
        seed = derive_seed(self._seed, "group", n)
        rng = random.Random(seed)
        group_id = f"{prefix}/{n}"
        task = self._source.make(n % families, self._place(n, rng))
        toolset = sample_toolset(self._catalogue, self._config, seed)
        return GroupSpec(
            group_id=group_id,
            step=step,
            task=task,
            toolset=toolset,
            preference=rng.choice(servable(self._preferences, toolset)),
            episodes=tuple(
                EpisodeSpec(f"{group_id}/{i}", derive_seed(seed, "episode", i))
                for i in range(episodes)
            ),
            policy=policy,
            greedy=greedy,
        )

    def _place(self, n: int, rng: random.Random) -> int:
        size, families = self._source.size, len(self._source.families)
        if not size:
            raise ConfigError("tasks: there are none to sample; give a file that has some")
        if self._source.endless:
            return rng.randrange(size)
        epoch, place = divmod(n // families, size)
        return _order(derive_seed(self._seed, "epoch", epoch, n % families), size)[place]


@lru_cache(maxsize=8)  # orders of the epochs in use
def _order(seed: int, size: int) -> Sequence[int]:
    return random.Random(seed).sample(range(size), size)
