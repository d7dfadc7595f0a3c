from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.data.catalogue import Catalogue, load_catalogue


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text to a file of the given name."""

    def written(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


@pytest.fixture(scope="session")
def catalogue_config() -> Callable[..., CatalogueConfig]:
    """A configuration for sampling toolsets; its path is never read."""

    def made(**given: object) -> CatalogueConfig:
        return CatalogueConfig(path="none", **given)  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="session")
def paper() -> Catalogue:
    folder = Path("configs/catalogues")
    sheets = [folder / "prices_together.yaml", folder / "prices_deepinfra.yaml"]
    return load_catalogue(folder / "paper.yaml", sheets)


@pytest.fixture(scope="session")
def orchestrator8b() -> Catalogue:
    return load_catalogue("configs/catalogues/orchestrator8b.yaml")
