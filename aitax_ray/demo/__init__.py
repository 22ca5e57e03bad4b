"""The demo world: invented species, drawn photographs, and a small GBIF on loopback that publishes them.

`aitax demo` is for people without an archive. Nothing here is real, and nothing here is part of the pipeline: to the
stages, the demo world is another GBIF at another address.
"""
