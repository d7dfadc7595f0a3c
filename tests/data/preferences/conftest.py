from pathlib import Path

import pytest

from orchestra_ray.data.catalogue import Catalogue, load_catalogue

FOLDER = Path("configs/catalogues")


@pytest.fixture(scope="session")
def simulated() -> Catalogue:
    return load_catalogue(FOLDER / "simulated.yaml")


@pytest.fixture(scope="session")
def paper() -> Catalogue:
    return load_catalogue(FOLDER / "paper.yaml")
