"""Decodes the photographs that strangers send, in processes that may crash or hang without harm to the service."""

import io

from PIL import Image

from aitax_ray.engine.info import EngineInfo
from aitax_ray.errors import RequestError
from aitax_ray.images.decode import Refusal
from aitax_ray.images.decoders import DecoderPool
from aitax_ray.images.reasons import REASONS

NUM_DECODERS = 2  # photographs at a time: each takes a core, and some 200 MB while it is decoded
MAX_PIXELS = 60_000_000  # more than telephones take
MAX_BYTES = 52_428_800  # Pl@ntNet's limit for all photographs of a request
TIMEOUT_S = 20.0  # for one photograph; most take less than 0.1 s


class PhotoDecoder:
    """Decodes photographs for an engine, no larger than its network needs."""

    def __init__(self, info: EngineInfo, num_decoders: int = NUM_DECODERS, timeout_s: float = TIMEOUT_S) -> None:
        # More than twice the pixels that the network sees would have no effect.
        image_size = 2 * info.transform.resize_size
        self._pool = DecoderPool(num_decoders, image_size, MAX_PIXELS, timeout_s)

    async def decode(self, body: bytes, name: str = "the photograph") -> Image.Image:
        """Decode a photograph to RGB. Raises RequestError (413 or 415) with the reason when it cannot be used."""
        if len(body) > MAX_BYTES:
            raise RequestError(f"{name} cannot be used: it has more than {MAX_BYTES:,} bytes", 413)
        photo = (await self._pool.decode(body)).photo
        if isinstance(photo, Refusal):
            meaning = f" ({REASONS[photo.reason]})" if photo.reason in REASONS else ""
            raise RequestError(f"{name} cannot be used: {photo.reason.replace('_', ' ')}{meaning}", 415)
        return Image.open(io.BytesIO(photo.jpeg), formats=["JPEG"]).convert("RGB")

    def close(self) -> None:
        """Stop the processes."""
        self._pool.close()
