import hashlib

import pyarrow as pa
import pytest

from aitax_ray import schemas
from aitax_ray.schemas import image_id

SCHEMAS = {name: value for name, value in vars(schemas).items() if isinstance(value, pa.Schema)}
KEYS = ("image_id", "gbif_id", "species_key", "dataset_key")


def test_the_key_of_a_photograph_is_the_sha1_of_its_url() -> None:
    url = "https://inaturalist-open-data.s3.amazonaws.com/photos/1/original.jpg?é=1"
    assert image_id(url) == hashlib.sha1(url.encode("utf-8")).hexdigest()
    assert image_id("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_key_is_a_string_in_every_schema(name: str) -> None:
    schema = SCHEMAS[name]
    assert {
        key: schema.field(key).type for key in KEYS if key in schema.names and schema.field(key).type != pa.string()
    } == {}


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_schema_has_a_column_twice(name: str) -> None:
    assert len(set(SCHEMAS[name].names)) == len(SCHEMAS[name].names)


def test_a_column_that_several_tables_have_is_of_one_type() -> None:
    types: dict[str, set[pa.DataType]] = {}
    for schema in SCHEMAS.values():
        for field in schema:
            types.setdefault(field.name, set()).add(field.type)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_what_the_index_says_of_a_photograph_comes_from_the_manifest_and_the_split() -> None:
    known = {*schemas.MEDIA.names, *schemas.SPLIT.names, *schemas.OCCURRENCES.names}
    known |= {"is_at_gbif", "is_shown", "thumbnail_offset", "thumbnail_length"}
    assert [name for name in schemas.INDEX_ROWS.names if name not in known] == []
