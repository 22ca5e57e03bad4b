import csv
import io
import zipfile
from pathlib import Path

import pytest

from aitax_ray.demo.server import serve_world
from aitax_ray.demo.world import World, build_world

SMALL = {"num_species": 3, "fewest": 3, "most": 6}


@pytest.fixture(scope="session")
def served_world(tmp_path_factory: pytest.TempPathFactory):
    """A small world and the address at which it is served."""
    folder: Path = tmp_path_factory.mktemp("world")
    with serve_world(folder) as base_url:
        world: World = build_world(folder, base_url=base_url, **SMALL)
        yield world, base_url


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a table of the archive, as GBIF means them to be read: without quotes."""
    with zipfile.ZipFile(folder / "archive.zip") as archive:
        text = archive.read(name).decode()
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
