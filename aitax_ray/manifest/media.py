"""Find each media row's URL and label, and drop rows that cannot be used by themselves.

`decide.decide_rows` then compares rows with each other, and has further reasons.
"""

from collections.abc import Sequence

import duckdb

from aitax_ray.darwin_core.relations import MALFORMED_ROW
from aitax_ray.database import literal

# Reasons to drop a row. The first one that applies is recorded: relations.MALFORMED_ROW, then
NOT_A_PHOTOGRAPH = "not_a_photograph"
NO_URL = "no_url"
BAD_URL_SCHEME = "bad_url_scheme"
ORPHAN = "orphan"  # after relations.SEVERAL_SPECIES_IN_EVENT
NO_LABEL_KEY = "no_{}_key"  # no_species_key, no_genus_key, ...
OTHER_DATASET = "other_dataset"

MAX_DESCRIPTION = 1000  # characters
_IMAGE_FILE = r"(?i)\.(jpe?g|png|webp|gif|tiff?|bmp)($|[?#])"
# Patterns for the terms `type` and `format` in small letters.
# DCMI types (https://www.dublincore.org/specifications/dublin-core/dcmi-terms/#section-7) that are no photographs. The
# others (PhysicalObject, Event, ...) say what is on a photograph, so format and URL decide.
_OTHER_TYPE = "sound|audio|movingimage|video|movie|text|interactiveresource|software|service"
_IMAGE_WORD = (
    r"\pL*images?|photo\pL*|foto\pL*|\pL*fotos?|pictures?|imágen(es)?|imagen(es)?|imagens?|imagem|immagin[ei]"
    r"|\pL*bild(er)?|afbeelding(en)?|bilde|\pL*kuva|\pL*kép|zdjęci[ea]|obraz(ek|ky|y)?|slika|gambar|фото\pL*|снимок"
    r"|изображени[ея]|φωτογραφί\pL*|εικόν\pL*|\pL*(写真|画像|照片|圖片|图片|相片|사진|이미지)\pL*"
)
_MOVING = "moving|motion|video|film|movie"
_FORMAT_WORD = "jpe?g|jpe|jfif|png|webp|gif|tiff?|bmp|hei[cf]"


def list_candidates(database: duckdb.DuckDBPyConnection, label: str, datasets: Sequence[str] = ()) -> None:
    """Give every media row its URL, its label (species_key) and the reason if it cannot be used.

    INPUT   `media` and `occurrence`, as `relations.link_media` makes them
    OUTPUT  `candidate`, one row for each media row. Its columns are `row`, those of schemas.MEDIA except license_id,
            and `reason` ("" if the row can be used).

    `label` is what photographs are labelled with, such as "genus"; the key of that taxon is in species_key. `datasets`
    are the datasets to take, () for all. A row is no photograph if its type is one of _OTHER_TYPE. Otherwise an image
    format, an image file's ending of the URL, or a word for a photograph in `type` is enough.
    """
    in_datasets = f"dataset_key IN ({', '.join(map(literal, datasets))})" if datasets else "true"
    # To save memory only the key columns are joined, as enums. The wide columns of text are streamed afterwards.
    for name in ("species_key", "dataset_key"):
        database.execute(f"CREATE TYPE {name} AS ENUM (SELECT DISTINCT {name} FROM occurrence ORDER BY ALL)")
    database.execute("""
        CREATE TABLE linked AS SELECT m.row, o.row AS occurrence_row, o.species_key::species_key AS species_key,
            o.dataset_key::dataset_key AS dataset_key
        FROM media AS m JOIN occurrence AS o ON m.occurrence_id = o.gbif_id""")
    # Regular expressions are slow and different texts are few, so each text is matched once.
    database.execute(f"""
        CREATE TABLE kinds AS
        WITH texts AS (SELECT DISTINCT type, format FROM media),
        folded AS (
            SELECT *, lower(format || ' ' || regexp_replace(type, '^https?://.*/', '')) AS both_terms,
                trim(regexp_replace(both_terms, '[^\\pL\\pM]+', ' ', 'g')) AS words
            FROM texts)
        SELECT type, format, regexp_full_match(lower(regexp_replace(type, '^https?://.*/|[^\\pL]+', '', 'g')),
                '{_OTHER_TYPE}') AS is_other,
            regexp_matches(both_terms, '(^|[^a-z])image/|(^|[^a-z/])({_FORMAT_WORD})([^a-z]|$)')
                OR regexp_matches(words, '(^| )({_IMAGE_WORD})( |$)')
                    AND NOT regexp_matches(words, '{_MOVING}|^audio') AS is_image
        FROM folded""")
    # `why` is a reason that link_media found. GBIF moves the URL of a photograph to `references` when it does not know
    # the MIME type.
    database.execute(f"""
        CREATE VIEW candidate AS
        WITH linked_media AS (
            SELECT m.row, m.why, m.occurrence_id AS gbif_id, m.license, m.creator, m.publisher, m.format,
                m."references", m."rightsHolder" AS rights_holder, m.title,
                left(m.description, {MAX_DESCRIPTION}) AS description,
                kinds.is_other, kinds.is_image,
                replace(CASE WHEN identifier = '' THEN "references" ELSE identifier END, ' ', '%20') AS url,
                identifier = '' AND "references" <> '' AS url_from_references,
                occurrence_row, coalesce(species_key::TEXT, '') AS species_key,
                coalesce(dataset_key::TEXT, '') AS dataset_key
            FROM media AS m JOIN kinds USING (type, format) LEFT JOIN linked USING (row))
        SELECT row, sha1(url) AS image_id, url, gbif_id, occurrence_row, species_key, license,
            creator, rights_holder, publisher, dataset_key, format, "references", title, description,
            url_from_references,
            CASE WHEN why = '{MALFORMED_ROW}' THEN why
                 WHEN is_other OR NOT is_image AND NOT regexp_matches(url, '{_IMAGE_FILE}')
                 THEN '{NOT_A_PHOTOGRAPH}'
                 WHEN url = '' THEN '{NO_URL}'
                 WHEN NOT regexp_matches(url, '(?i)^https?://[^/?#]') THEN '{BAD_URL_SCHEME}'
                 WHEN why <> '' THEN why
                 WHEN occurrence_row IS NULL THEN '{ORPHAN}'
                 WHEN species_key = '' THEN '{NO_LABEL_KEY.format(label.replace("-", "_"))}'
                 WHEN NOT {in_datasets} THEN '{OTHER_DATASET}'
                 ELSE '' END AS reason
        FROM linked_media""")
