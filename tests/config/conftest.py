"""A small valid configuration, and a way to load it with changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra_ray.config import Config, load

REPOSITORY = Path(__file__).parents[2]
BASE = f"""
name: small
training: {{steps: 1}}
model: {{tiny: {{}}, dtype: float32}}
tasks: {{families: [{{name: gcd}}]}}
rollout: {{max_prompt_tokens: 800, max_response_tokens: 64, max_observation_tokens: 64}}
catalogue:
  path: {REPOSITORY}/configs/catalogues/simulated.yaml
  preferences: [{{name: exact, instruction: Be right.}}]
"""


@pytest.fixture
def base_file(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture
def load_with(base_file: Path) -> Callable[..., Config]:
    """Loads the small configuration with overrides, and with the text of a second file."""

    def load_with(*overrides: str, text: str | None = None) -> Config:
        files = [base_file]
        if text is not None:
            files.append(base_file.with_name("extra.yaml"))
            files[-1].write_text(text)
        return load(files, overrides)

    return load_with


@pytest.fixture(scope="session")
def paper_config() -> Config:
    return load([REPOSITORY / "configs/paper_qwen3_8b.yaml"])
