"""Find other places of a photograph: a smaller copy at the same host, or GBIF's image cache.

A photograph of twelve megapixels costs the host and us forty times as much as a copy that is large enough.
"""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

ORIGINAL, SIZED_COPY, IMAGE_CACHE = "original", "sized_copy", "image_cache"
SMALL_COPY = "small_copy"
REASONS = {SMALL_COPY: "a copy that is too small for the requested size: a larger one was requested"}


@dataclass(frozen=True)
class SizedCopies:
    """Sizes in which a host keeps its photographs. `url` matches an original; its group `size` names the size."""

    url: re.Pattern[str]
    sizes: dict[str, int]  # name of a size -> longer side in px, the smallest first


# Add hosts here. iNaturalist: "Photos" in https://github.com/inaturalist/inaturalist-open-data
TABLE = (
    SizedCopies(
        re.compile(
            r"https?://(?:inaturalist-open-data\.s3(?:\.[a-z0-9-]+)?\.amazonaws\.com|static\.inaturalist\.org)"
            r"/photos/\d+/(?P<size>original)\.\w+(?:\?\d*)?",
            re.IGNORECASE,
        ),
        {"medium": 500, "large": 1024},
    ),
)
ASPECT = 1.5  # longer to shorter side of most photographs; for others the size of the fetched copy decides


@dataclass(frozen=True)
class Copy:
    """One URL of a photograph."""

    url: str
    source: str  # ORIGINAL, SIZED_COPY or IMAGE_CACHE
    longer_side: int = 0  # px, to which larger photographs were shrunk; 0: not shrunk

    def covers(self, width: int, height: int, image_size: int, max_elongation: int) -> bool:
        """Tell whether a photograph stored from this copy is as large as one stored from the original.

        `width` and `height` are those of the stored photograph, whose shorter side is at most `image_size` and whose
        longer side is at most `max_elongation` times that.
        """
        shorter, longer = sorted((width, height))
        shrunk = longer >= self.longer_side > 0
        return not shrunk or shorter >= image_size or longer >= max_elongation * image_size


def copies(url: str, image_size: int, table: tuple[SizedCopies, ...] = TABLE) -> list[Copy]:
    """List the copies to try, one after the other, until one exists and is large enough. The original is the last."""
    for kind in table:
        if match := kind.url.fullmatch(url.strip()):
            begin, end = match.span("size")
            fitting = [
                Copy(f"{match.string[:begin]}{name}{match.string[end:]}", SIZED_COPY, side)
                for name, side in kind.sizes.items()
                if side >= ASPECT * image_size
            ]
            return [*fitting, Copy(url, ORIGINAL)]
    return [Copy(url, ORIGINAL)]


def cached_copy(gbif_url: str, gbif_id: str, url: str) -> Copy:
    """Return the copy in GBIF's image cache of an occurrence's photograph, at most 1200 px wide and high.

    https://techdocs.gbif.org/en/openapi/images
    """
    digest = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()
    return Copy(
        f"{gbif_url.rstrip('/')}/v1/image/cache/occurrence/{quote(gbif_id, safe='')}/media/{digest}", IMAGE_CACHE
    )
