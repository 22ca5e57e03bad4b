"""The Arrow schemas of all tables that pass from stage to stage, each written once.

Keys are strings: `image_id` is the sha1 (hex) of the URL, `gbif_id` is GBIF's occurrence key, `species_key` is the
species' key in the checklist used (GBIF's newer keys are alphanumeric). Unknown text is "", never null.
"""

import hashlib

import pyarrow as pa

text, key = pa.string(), pa.string()

# Others have occurrences too, and may number them. Only the records of GBIF's datasets have a datasetKey, a UUID: the
# page of such an occurrence is OCCURRENCE_PAGE followed by its gbif_id.
DATASET_KEY = r"(?i)^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"
OCCURRENCE_PAGE = "https://www.gbif.org/occurrence/"

# GBIF's own checklist: a species_key of it, a number, has a page at gbif.org/species/.
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"

# A photograph to fetch: a StillImage row of the archive, joined to its occurrence. The table is sorted by image_id,
# which is a hash: neighbours in the table come from different hosts and show different species.
MEDIA = pa.schema(
    {
        "image_id": key,
        "url": text,
        "gbif_id": key,
        "species_key": key,
        "license": text,  # as given: a URL or free text
        "license_id": text,  # CC-BY-4.0, ..., as aitax_ray.licenses names them
        "creator": text,
        "rights_holder": text,
        "publisher": text,
        "dataset_key": key,
        "format": text,  # MIME type as given
        "references": text,  # web page of the photograph
        "title": text,
        "description": text,  # its first 1,000 characters
        "url_from_references": pa.bool_(),  # the archive has no `identifier`: the URL may lead to a web page
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
        "vernacular_names": pa.list_(pa.struct({"language": text, "name": text})),  # one name per language (ISO 639-3)
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
        "identified_by": text,
        "identification_status": text,  # identificationVerificationStatus, as given
        "identification_remarks": text,
    }
)

# A media row that was dropped, and why.
DROPPED = pa.schema({"row": pa.int64(), "gbif_id": key, "url": text, "species_key": key, "reason": text})

# A stored photograph: an upright RGB JPEG, its shorter side at most `image_size` px. `gbif_id` and `species_key` are
# those that the manifest had when it was fetched. The manifest may have changed since, and then the manifest counts.
IMAGES = pa.schema(
    {
        "image_id": key,
        "url": text,
        "gbif_id": key,
        "species_key": key,
        "width": pa.int32(),  # px
        "height": pa.int32(),
        "jpeg": pa.binary(),
        "jpeg_sha256": text,  # hex, of `jpeg`: equal pixels make an equal JPEG
        "phash": pa.binary(32),  # perceptual hash, see images.fingerprint
        "contrast": pa.float32(),  # standard deviation of the brightness, 0 to 127.5
    }
)

# An attempt to fetch a URL. In each run the last attempt has the status "ok" or "failed", the earlier ones "retried".
# The fate of a URL is its last row whose status is not "retried". Later runs add rows and change none.
LEDGER = pa.schema(
    {
        "image_id": key,
        "url": text,  # as in the manifest
        "run": text,  # the run of the stage that made the row; runs sort by time
        "status": text,  # "retried", "ok", "failed", "vanished" (no longer in the manifest) or "pruned" (and deleted)
        "reason": text,  # "" when ok, else one of images.reasons.REASONS
        "http_status": pa.int16(),  # the last one, 0 when there was none
        "attempts": pa.int16(),  # requests for the URL in this run so far, this one included, redirects not counted
        "num_bytes": pa.int64(),  # as fetched
        "seconds": pa.float32(),  # duration of the request
        "source": text,  # "original", "sized_copy" (of the same host) or "image_cache" (of GBIF)
        "final_url": text,  # the URL that was fetched in the end, after redirects
        "content_type": text,  # as the server says, which may be wrong
        "sha256": text,  # hex, of the bytes fetched
        "fetched_at": pa.timestamp("us", "UTC"),
        "shard": text,  # the file of `images/` that holds the photograph, "" when there is none
    }
)

SPLIT = pa.schema(
    {
        "image_id": key,
        "gbif_id": key,
        "species_key": key,
        "class_index": pa.int32(),  # 0..K-1, in the order of species_key
        "split": text,  # train, val, test
        "group": key,  # all photographs of a group are in the same split
        "trust": text,  # how far the label can be believed: one of dataset.label_trust.TRUSTS
        "weight": pa.float32(),  # in training: 1, or less for a label that is hardly believed
    }
)

# A stored photograph that is left out, and why.
EXCLUDED = pa.schema(
    {
        "image_id": key,
        "gbif_id": key,
        "species_key": key,
        "reason": text,  # one of dataset.reasons.REASONS
        "detail": text,  # the image_id that was kept, the species in conflict, the licence, ...
        "cluster": key,  # of duplicates and conflicts: the smallest image_id of those that look the same; else ""
    }
)

# A photograph that was in the test split once, and the settings that put it there: the seed, the share of test, how
# groups were made.
TESTED = pa.schema({"image_id": key, "drawn_by": text})

# Embeddings of unit length, and the sha256 of the JPEG that was embedded.
EMBEDDINGS = pa.schema(
    {"image_id": key, "embedding": pa.list_(pa.float16()), "jpeg_sha256": IMAGES.field("jpeg_sha256").type}
)

# The embeddings of V views of a photograph by a frozen backbone, one after the other: V x D numbers of unit length, and
# the V lengths that they had. The first view is the one that the service sees.
VIEWS = pa.schema({"image_id": key, "unit": pa.list_(pa.float16()), "length": pa.list_(pa.float32())})
# The same in model/embeddings/, with the sha256 of the JPEG that was embedded.
STORED_VIEWS = VIEWS.append(IMAGES.field("jpeg_sha256"))

# An indexed photograph: its place in the index is its row, and the rows are in the order of (class_index, image_id). So
# the photographs of a species lie together.
INDEX_ROWS = pa.schema(
    {
        "image_id": key,
        "species_key": key,
        "class_index": pa.int32(),
        "split": text,
        "gbif_id": key,
        "is_at_gbif": pa.bool_(),  # OCCURRENCE_PAGE + gbif_id is its page
        "url": text,  # on the web; "" where only this machine can open it
        "license": text,
        "license_id": text,
        "creator": text,
        "rights_holder": text,
        "publisher": text,
        "references": text,  # on the web
        "event_date": text,  # when it was taken: ISO 8601 as given, perhaps an interval
        "is_shown": pa.bool_(),  # answers may show it
        "thumbnail_offset": pa.int64(),  # bytes, in thumbnails.bin
        "thumbnail_length": pa.int32(),  # 0: it has no thumbnail
    }
)

# The thumbnail of a photograph, a WebP, with the sha256 of the JPEG it was made from; empty if that JPEG is broken.
THUMBNAILS = pa.schema({"image_id": key, "thumbnail": pa.binary(), "jpeg_sha256": text})

PER_SPECIES = pa.schema(
    {
        "species_key": key,
        "class_index": pa.int32(),
        "name": text,
        "num_train_images": pa.int64(),
        "num_images": pa.int64(),  # in the test split
        "top1": pa.float64(),  # share in [0, 1], also called recall; null without test photographs
        "top5": pa.float64(),
        "precision": pa.float64(),  # share of right answers among the answers with this name; null without answers
        "f1": pa.float64(),
        "mean_score": pa.float64(),  # of the right species
        "most_often_taken_for": text,  # name of a species, "" when all photographs were named right
        "taken_for_share": pa.float64(),  # of its photographs
        "most_often_mistaken_from": text,  # name of the species whose photographs most often get this name wrongly
        "acceptance_threshold": pa.float64(),  # lowest score of an answer that can be accepted; null if there is none
        "acceptance_reason": text,  # why there is no threshold
        "is_added": pa.bool_(),  # whether `index --add` added the species, without training
    }
)

# The answer to a photograph of the test split alone. Two engines are compared on the photographs that both have.
ANSWERS = pa.schema(
    {
        "image_id": key,
        "gbif_id": key,
        "species_key": key,  # the right one
        "answer": key,  # the species_key that was given, "" if the network gave no number
        "score": pa.float32(),  # calibrated
        "is_added": pa.bool_(),  # whether the right species was added by `index --add`, without training
    }
)


def image_id(url: str) -> str:
    """Make the key of a photograph: the sha1 of its URL, 40 hex digits."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
