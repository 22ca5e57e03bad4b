"""The Arrow schemas of everything that crosses a stage, once.

Keys are strings throughout: `image_id` is the sha1 (hex) of the URL, `gbif_id` GBIF's occurrence key, `species_key`
the species' key in the checklist used (GBIF's newer keys are alphanumeric). Text that is not known is "", never null.
"""

import hashlib

import pyarrow as pa

text, key = pa.string(), pa.string()

# A photograph to fetch: a StillImage row of the archive, joined to its occurrence. Sorted by image_id, which is a
# hash: neighbours in the table are of different hosts and different species.
MEDIA = pa.schema(
    {
        "image_id": key,
        "url": text,
        "gbif_id": key,
        "species_key": key,
        "license": text,  # as given: a URL or free text
        "license_id": text,  # CC-BY-4.0, ..., as gbif.licenses names them
        "creator": text,
        "rights_holder": text,
        "publisher": text,
        "dataset_key": key,
        "format": text,  # MIME type as given
        "references": text,  # web page of the photograph
        "url_from_references": pa.bool_(),  # no `identifier` was given: the URL may well lead to a page
    }
)

# An entry of the checklist; `name` is the canonical name, without authorship.
TAXA = pa.schema(
    {
        "species_key": key,
        "name": text,
        "scientific_name": text,
        "authorship": text,
        "rank": text,
        "vernacular_name": text,
        "vernacular_names": pa.list_(pa.struct({"language": text, "name": text})),  # a name a language (ISO 639-3)
        "genus": text,
        "family": text,
        "order": text,
        "class": text,
        "phylum": text,
        "kingdom": text,
        "num_occurrences": pa.int64(),
        "num_images": pa.int64(),
    }
)

OCCURRENCES = pa.schema(
    {
        "gbif_id": key,
        "species_key": key,
        "decimal_latitude": pa.float64(),  # degrees, null where not given
        "decimal_longitude": pa.float64(),
        "coordinate_uncertainty_m": pa.float64(),
        "event_date": text,  # ISO 8601 as given
        "country_code": text,
        "basis_of_record": text,
        "recorded_by": text,
        "dataset_key": key,
    }
)

# A media row that was not kept, and why.
DROPPED = pa.schema({"row": pa.int64(), "gbif_id": key, "url": text, "species_key": key, "reason": text})

# A stored photograph: an upright RGB JPEG, its shorter side at most `image_size` px.
IMAGES = pa.schema(
    {
        "image_id": key,
        "url": text,
        "gbif_id": key,
        "species_key": key,
        "width": pa.int32(),  # px
        "height": pa.int32(),
        "jpeg": pa.binary(),
    }
)

# The fate of a URL. `shard` names the file of `images/` that holds the photograph, "" when none does.
LEDGER = pa.schema(
    {
        "image_id": key,
        "url": text,
        "status": text,  # "ok" or "failed"
        "reason": text,  # "" when ok, else one of images.answers.REASONS or images.decode.REASONS
        "http_status": pa.int16(),  # last one seen, 0 when none was
        "attempts": pa.int16(),
        "num_bytes": pa.int64(),  # as fetched
        "fetched_at": pa.timestamp("ms", "UTC"),
        "shard": text,
    }
)

SPLIT = pa.schema(
    {
        "image_id": key,
        "gbif_id": key,
        "species_key": key,
        "class_index": pa.int32(),  # 0..K-1, in the order of species_key
        "split": text,  # train, val, test
    }
)

EXCLUDED = pa.schema({"image_id": key, "species_key": key, "reason": text})

EMBEDDINGS = pa.schema({"image_id": key, "embedding": pa.list_(pa.float32())})  # unit length

# What the index needs to say of the photograph at a row of the searcher.
INDEX_ROWS = pa.schema(
    {
        "row": pa.int64(),
        "image_id": key,
        "species_key": key,
        "class_index": pa.int32(),
        "gbif_id": key,
        "url": text,
        "license": text,
        "creator": text,
        "rights_holder": text,
        "publisher": text,
        "references": text,
    }
)

PER_SPECIES = pa.schema(
    {
        "species_key": key,
        "class_index": pa.int32(),
        "name": text,
        "num_train_images": pa.int64(),
        "num_images": pa.int64(),  # in the test split
        "top1": pa.float64(),  # share in [0, 1], null without test photographs
        "top5": pa.float64(),
        "most_often_taken_for": text,  # name of the species, "" when never mistaken
    }
)


def image_id(url: str) -> str:
    """The key of a photograph: sha1 of its URL, 40 hex digits."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
