"""The examples of the OpenAPI: an answer about an invented photograph, as the writers of the formats write it."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from aitax_ray.engine.bundle import Taxon
from aitax_ray.engine.info import FORMAT_VERSION, EngineInfo
from aitax_ray.serving import c4c, nia, pn, pn_taxa
from aitax_ray.serving.backend import UNLIMITED
from aitax_ray.serving.findings import Illustration
from aitax_ray.serving.identifier import Candidate, Identification
from aitax_ray.serving.judgement import GroupScore, Judgement

SERVICE = "https://frogs.example/"
MD5 = "0cc175b9c0f1b6a831c399e269772661"
TAXON = Taxon(
    species_key="2426661",
    name="Rana temporaria",
    scientific_name="Rana temporaria Linnaeus, 1758",
    authorship="Linnaeus, 1758",
    rank="SPECIES",
    vernacular_name="Common Frog",
    genus="Rana",
    family="Ranidae",
    vernacular_names=(("eng", "Common Frog"), ("fra", "Grenouille rousse")),
)
ENGINE = EngineInfo.model_validate(
    {
        "format_version": FORMAT_VERSION,
        "version": "2026-11-01-frogs",
        "created": datetime(2026, 11, 1, tzinfo=UTC),
        "arch": "efficientnet_lite0",
        "transform": {"crop_size": 224, "resize_size": 256, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        "classes": [TAXON.species_key],
        "names": [TAXON.name],
        "embedding_size": 1280,
        "decisions": {},
        "thresholds": {"min_score": 0.005, "max_total_score": 0.99},
        "num_indexed": 100,
        "doi": "10.15468/dl.frogs1",
        "citation": "GBIF.org (1 November 2026) GBIF Occurrence Download https://doi.org/10.15468/dl.frogs1",
        "checklist_key": None,
        "metrics": {"top1": 0.912, "top5": 0.985},
        "versions": {},
        "files": {},
    }
)
_ILLUSTRATION = Illustration(
    image_id="86f7e437faa5a7fce15d1ddcb9eaeaea377667b8",
    gbif_id="3759321876",
    occurrence="https://www.gbif.org/occurrence/3759321876",
    url="https://photos.example/frog.jpg",
    license="http://creativecommons.org/licenses/by/4.0/",
    creator="Ann Author",
    rights_holder="Ann Author",
    publisher="iNaturalist.org",
    references="https://photos.example/frog",
    has_thumbnail=True,
    similarity=0.91,
    license_id="CC-BY-4.0",
    event_date="2023-05-01",
)
IDENTIFICATION = Identification(
    candidates=(Candidate(TAXON, 0.93521, (_ILLUSTRATION,)),),
    judgement=Judgement(
        is_known=True,
        rank="species",
        name=TAXON.name,
        score=0.93521,
        is_accepted=True,
        precision=0.95,
        candidates=(TAXON.species_key,),
        promise=0.9,
        lookalikes=("Rana arvalis",),
        similarity=0.91,
    ),
    genera=(GroupScore("Rana", 0.98112),),
    families=(GroupScore("Ranidae", 0.99013),),
    engine_version=ENGINE.version,
)
_ASKED = pn.PnRequest("all", [MD5], ["frog.jpg"], ["auto"], include_related_images=True, base_url=SERVICE)
_MEDIUM = nia.NiaMedium(filename="frog.jpg", id=MD5)
_PROJECT = pn_taxa.project_of(ENGINE)


def _example(model: BaseModel | None) -> dict[str, Any]:
    assert model is not None
    return model.model_dump(mode="json", by_alias=True)


C4C_ANSWER = _example(c4c.to_answer(IDENTIFICATION, base_url=SERVICE))
C4C_STATUS = _example(c4c.to_status(ENGINE, 1234))
C4C_TAXA = [_example(row) for row in c4c.to_taxa([TAXON])]
PN_ANSWER = _example(pn.to_answer(IDENTIFICATION, _ASKED, ENGINE, UNLIMITED))
PN_EMBEDDING = {"embeddings": [0.0312, -0.0175, 0.0021], "version": pn.version_of(ENGINE)}
PN_PROJECTS = [_example(pn_taxa.to_project(ENGINE, _PROJECT))]
PN_SPECIES = [_example(row) for row in pn_taxa.to_species([TAXON], ENGINE, "en")]
PN_ALIGNED = _example(pn_taxa.align([TAXON], ENGINE, _PROJECT, TAXON.name))
NIA_ANSWER = _example(nia.to_answer(IDENTIFICATION, ENGINE, [_MEDIUM], ENGINE.created, {}))
NIA_DOCUMENTATION = _example(nia.to_documentation(ENGINE))
HELP = {
    "routes": [
        {
            "method": "GET",
            "path": "/identify",
            "parameters": {"image": "URLs of 1 to 5 photographs of one individual"},
            "description": "Identify photographs of one individual by their URLs.",
        }
    ]
}
_COUNT = {"count": 0, "total": UNLIMITED, "remaining": UNLIMITED}
PN_DAY = {"day": "2026-11-01", "quota": {"identify": _COUNT}}
PN_SUBSCRIPTION = {
    "account": "",
    "contract": "free",
    "history": [],
    "billing": "none",
    "security": {"exposeKey": False, "ips": [], "domains": []},
}
