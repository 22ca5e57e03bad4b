"""A root that every stage has been through, made once a session without Ray."""

import hashlib
import io
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.engine.publish import publish
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.evaluation import photographs
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.images import inventory, shards
from aitax_ray.images.fingerprint import fingerprint
from aitax_ray.images.ledger import new_run
from aitax_ray.settings import StageSettings
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.predict import read_classifier
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row
from tests.small import PredictedHere, trained, write_index, write_root

REASONS = {"duplicate_url": 48}


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ws = write_root(tmp_path_factory.mktemp("published") / "root")
    media = ws.storage.read_table(workspace.MEDIA)
    count_taxa(ws, media)
    dropped = [
        blank_row(schemas.DROPPED, row=number, reason="duplicate_url")
        | {name: row[name] for name in ("url", "gbif_id", "species_key")}
        for number, row in enumerate(media.to_pylist())
    ]
    ws.storage.write_table(workspace.DROPPED, pa.Table.from_pylist(dropped, schemas.DROPPED))
    report = ws.require("manifest").model_copy(update={"counts": {"rows_read": 96, "kept": 48}, "reasons": REASONS})
    ws.storage.write_json("manifest/report.json", report.model_dump(mode="json"))
    for file in ws.storage.files(workspace.IMAGES, ".parquet"):
        rows = ws.storage.read_table(file.path).to_pylist()
        for row in rows:
            row["jpeg_sha256"] = hashlib.sha256(row["jpeg"]).hexdigest()
            with Image.open(io.BytesIO(row["jpeg"])) as image:
                row["phash"], row["contrast"] = fingerprint(image)
        ws.storage.write_table(file.path, pa.Table.from_pylist(rows, schemas.IMAGES))
    write_ledger(ws)
    split(SplitSettings(root=ws.root, rules=False, max_distance=0, val=0.25, test=0.25))
    source = Workspace(str(trained(tmp_path_factory)))

    def train() -> Outcome:
        for file in source.storage.files("model"):
            if not file.path.endswith("report.json"):
                ws.storage.write_bytes(file.path, source.storage.read_bytes(file.path))
        info, classifier = read_classifier(ws)
        ws.storage.write_bytes(workspace.ONNX, export_onnx(classifier, info.transform))
        return Outcome()

    ws.run("train", StageSettings(root=ws.root), ("manifest", "download", "split"), train)
    with pytest.MonkeyPatch.context() as patch:
        write_index(ws, patch, thumbnails=True)
        patch.setattr(photographs, "predictions", PredictedHere)
        evaluate(EvaluateSettings(root=ws.root))
    publish(PublishSettings(root=ws.root))
    return Path(ws.root)


def count_taxa(ws: Workspace, media: pa.Table) -> None:
    """Write how many photographs and occurrences each species has, as the manifest does."""
    rows = ws.storage.read_table(workspace.TAXA).to_pylist()
    for row in rows:
        own = [photo for photo in media.to_pylist() if photo["species_key"] == row["species_key"]]
        row |= {"num_images": len(own), "num_occurrences": len({photo["gbif_id"] for photo in own})}
    ws.storage.write_table(workspace.TAXA, pa.Table.from_pylist(rows, schemas.TAXA))


def write_ledger(ws: Workspace) -> None:
    """Write the ledger of the stored photographs."""
    for file in ws.storage.files(workspace.IMAGES, ".parquet"):
        name = file.path.rsplit("/", 1)[-1]
        rows = [
            blank_row(schemas.LEDGER, image_id=row["image_id"], url=row["url"], status="ok", run="r1", shard=name)
            for row in ws.storage.read_table(file.path, ["image_id", "url"]).to_pylist()
        ]
        shards.write_fates(ws.storage, new_run(ws.storage), pa.Table.from_pylist(rows, schemas.LEDGER), 64)
    inventory.record_files(ws.storage)


@pytest.fixture
def published(published_once: Path, tmp_path: Path) -> Workspace:
    """A copy of that root."""
    return Workspace(str(shutil.copytree(published_once, tmp_path / "root")))
