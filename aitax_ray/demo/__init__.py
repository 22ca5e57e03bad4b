"""The demo world: invented species, drawn photographs, and a small GBIF on loopback that publishes them.

For `aitax demo`, for people who have no archive at hand. Nothing here is real, and nothing here is part of the
pipeline: to the stages, the demo world is one more GBIF, at another address.
"""
