"""aitax_ray turns a GBIF query into an identification engine.

The stages of the pipeline are verbs. `manifest` reads a Darwin Core Archive into a table of photographs. `download`
fetches them politely. `split` puts each occurrence on one side. `train` fits a classifier. `evaluate` measures it on
photographs it has not seen. `index` makes their embeddings searchable. `publish` packs everything into an engine:
`serve` answers from it, and `identify` asks it. Stages never call each other. They meet on storage, under one root,
through the artifacts that `workspace` names and `schemas` describes.
"""

__version__ = "0.1.0"
