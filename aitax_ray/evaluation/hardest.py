"""The species that the engine recognises worst, with a photograph of each and of what it is taken for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aitax_ray.evaluation.lookalikes import Pairs

PRIOR = 2  # photographs


def sort_hardest(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort the tested rows of per_species.parquet, the hardest first, those that are always right last.

    Two photographs with the mean of all are added to those of each species, so that a species with one photograph,
    which proves little, does not come first.
    """
    tested = [row for row in rows if row["num_images"] and row["top1"] is not None]
    mean = sum(row["top1"] for row in tested) / max(len(tested), 1)

    def sort_key(row: Mapping[str, Any]) -> tuple[bool, float, str]:
        num = row["num_images"]
        return row["top1"] == 1, (row["top1"] * num + PRIOR * mean) / (num + PRIOR), row["name"]

    return sorted(tested, key=sort_key)


def list_worst(rows: Sequence[Mapping[str, Any]], pairs: Pairs, limit: int = 9) -> list[dict[str, Any]]:
    """List the hardest species that are taken for others, at most `limit`, as metrics.json has them.

    `rows` are those of `figures.measure_species`, one per class, in the order of class_index. `image` is a photograph
    that was taken for the other species if there is one, `image_taken_for` one of that species; "" without one.
    """
    images = dict[tuple[int, int], tuple[str, str]]()
    columns = (pairs.a, pairs.b, pairs.image_a, pairs.image_b)
    for a, b, image_a, image_b in zip(*(column.tolist() for column in columns), strict=True):
        images[a, b], images[b, a] = (image_a, image_b), (image_b, image_a)
    place_of = {row["name"]: row["class_index"] for row in rows}
    worst = [row for row in sort_hardest(rows) if row["most_often_taken_for"]][:limit]
    found = []
    for row in worst:
        image, other = images.get((row["class_index"], place_of[row["most_often_taken_for"]]), ("", ""))
        found.append(
            {
                "name": row["name"],
                "top1": row["top1"],
                "num": row["num_images"],
                "num_train": row["num_train_images"],
                "taken_for": row["most_often_taken_for"],
                "taken_for_share": row["taken_for_share"],
                "image": image,
                "image_taken_for": other,
            }
        )
    return found
