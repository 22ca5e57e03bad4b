"""Every reason why a URL gave no photograph, with its meaning. The list is closed; docs/download.md tells it."""

from aitax_ray.images import answers, content, decode, decoders, shards, sizes

REASONS: dict[str, str] = (
    answers.REASONS | content.REASONS | decode.REASONS | decoders.REASONS | sizes.REASONS | shards.REASONS
)
