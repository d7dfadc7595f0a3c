"""The order in which tasks are drawn, with a cursor that a checkpoint can save.

Group n of a run (its task, draw, preference and seeds) is a pure function of the run's seed and n.
Its preference is one that its draw can serve. Training and measurement each have a sampler, with
preferences of their own: `load_preferences` and `load_heldout_preferences`.
"""

import random
from collections.abc import Sequence

from orchestra_ray.catalogue import Catalogue, draw_offers
from orchestra_ray.catalogue.preferences import fitting
from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.records import EpisodeSpec, GroupSpec, Preference
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.tasks.reasoning_gym import TaskSource


class GroupSampler:
    """Deals groups in order: families in turn, tasks in a seeded order within each."""

    def __init__(
        self,
        source: TaskSource,
        catalogue: Catalogue,
        config: CatalogueConfig,
        preferences: Sequence[Preference],
        seed: int,
    ):
        self._source, self._catalogue, self._config = source, catalogue, config
        self._preferences, self._seed = preferences, seed
        self.cursor = 0

    def next_group(self, episodes: int, step: int) -> GroupSpec:
        """The group at the cursor, with ids that are unique in the run; moves the cursor on."""
        group = self.group(self.cursor, episodes, step=step)
        self.cursor += 1
        return group

    def group(
        self,
        n: int,
        episodes: int,
        policy: str = "model",
        prefix: str = "train",
        greedy: bool = False,
        step: int = 0,
    ) -> GroupSpec:
        """Group n. The same n and seed give the same task, draw, preference and episode seeds."""
        families = len(self._source.families)
        seed = derive_seed(self._seed, "group", n)
        rng = random.Random(seed)
        group_id = f"{prefix}/{n}"
        task = self._source.make(n % families, rng.randrange(self._source.size))
        draw = draw_offers(self._catalogue, self._config, seed)
        return GroupSpec(
            group_id=group_id,
            step=step,
            task=task,
            draw=draw,
            preference=rng.choice(fitting(self._preferences, draw)),
            episodes=tuple(
                EpisodeSpec(f"{group_id}/{i}", derive_seed(seed, "episode", i))
                for i in range(episodes)
            ),
            policy=policy,
            greedy=greedy,
        )
