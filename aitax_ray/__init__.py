"""aitax_ray turns a GBIF query into an identification engine.

The pipeline, a stage a verb: `manifest` reads a Darwin Core Archive into a table of photographs; `download` fetches
them politely; `split` puts every occurrence on one side; `train` fits a classifier; `evaluate` measures it on what it
has not seen; `index` makes its embeddings searchable; `publish` packs all of it into an engine that `serve` answers
from and `identify` asks. Stages never call each other: they meet on storage, under one root, through the artifacts
that `workspace` names and `schemas` describes.
"""

__version__ = "0.1.0"
