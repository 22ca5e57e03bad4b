"""Decodes the photographs that strangers send, in processes that may crash or hang without harm to the service."""

from PIL import Image

from aitax_ray.engine.info import EngineInfo
from aitax_ray.errors import RequestError
from aitax_ray.images.budget import ThreadBudget
from aitax_ray.images.content import REASONS as NO_PHOTOGRAPH
from aitax_ray.images.decode import DECOMPRESSION_BOMB, OUT_OF_MEMORY, TOO_COMPLEX, Refusal
from aitax_ray.images.decoders import DECODER_CRASHED, DECODER_TIMEOUT, TOO_SLOW, DecoderPool
from aitax_ray.images.reasons import REASONS
from aitax_ray.serving import metrics

# On photographs of 1 megapixel, embeddings differ less from those of a plain decoding than they do after the copy that
# the download stores: cosines of 0.999 and 0.994.
LEAST = 1.5
NUM_DECODERS = 2  # photographs at a time: each takes a core
MAX_PIXELS = 60_000_000  # more than telephones take
MAX_BYTES = 52_428_800  # Pl@ntNet's limit for all photographs of a request
TIMEOUT_S = 5.0  # for one photograph; most take less than 0.1 s
# Photographs that look slow, take longer, or take much of a core while others wait, are decoded by a process of their
# own that gives way to the others. So slow ones never stop the quick ones. 150 megapixels are some 0.7 s: a JPEG of 12
# megapixels with 12 scans, or 37 megapixels in another format.
MAX_QUICK_WORK = 150_000_000
MAX_QUICK_CPU_S = 0.5
SLOW_TIMEOUT_S = 20.0
SLOW_NICENESS = 5
MAX_SLOW = 8  # slow photographs that wait; more are refused
# Memory that all quick photographs take together while they are decoded. The slow one has memory of its own: 60
# megapixels take 0.3 GB, with transparency 0.7 GB, in WebP 1 GB.
MAX_MEMORY = 500_000_000
MAX_WAITING = 128  # photographs that wait or are being decoded; more are refused with 503
MAX_WAITING_BYTES = 400_000_000
BUSY = "too many photographs wait to be decoded; try again in some seconds"
TOO_LARGE = frozenset({DECOMPRESSION_BOMB, OUT_OF_MEMORY, TOO_COMPLEX})  # refused with 413, others with 415
FORMATS = "send JPEG, PNG, WebP, GIF, HEIC, AVIF, TIFF or BMP"


class PhotoDecoder:
    """Decodes photographs for an engine, and resizes them to what its network needs."""

    def __init__(
        self,
        info: EngineInfo,
        num_decoders: int = NUM_DECODERS,
        timeout_s: float = TIMEOUT_S,
        slow_timeout_s: float = SLOW_TIMEOUT_S,
    ) -> None:
        # A JPEG is decoded at the fraction of its size that is the first one above LEAST times what the network sees.
        size = info.transform.resize_size
        image_size, self._least_size = int(2 * LEAST * size), int(LEAST * size)
        # What the network does not see would only be copied from process to process.
        finish = f"{type(info.transform).__module__}:resizing", info.transform.model_dump_json()
        self._pool = DecoderPool(
            num_decoders,
            image_size,
            MAX_PIXELS,
            timeout_s,
            ThreadBudget(MAX_MEMORY),
            finish,
            max_work=MAX_QUICK_WORK,
            max_cpu_s=MAX_QUICK_CPU_S,
        )
        self._slow_pool = DecoderPool(1, image_size, MAX_PIXELS, slow_timeout_s, finish=finish, niceness=SLOW_NICENESS)
        self._num_waiting = self._num_bytes = self._num_slow = 0

    async def decode(self, body: bytes, name: str = "the photograph") -> Image.Image:
        """Decode a photograph to RGB. Raises RequestError with the reason when it cannot be used.

        Its status is 400 for no bytes, 413 for too large, 415 for no photograph, 503 when too many wait.
        """
        if not body:
            raise RequestError(f"{name} is empty")
        if len(body) > MAX_BYTES:
            raise RequestError(f"{name} cannot be used: it has more than {MAX_BYTES:,} bytes", 413)
        if self._num_waiting >= MAX_WAITING or self._num_bytes + len(body) > MAX_WAITING_BYTES:
            raise RequestError(BUSY, 503)
        self._num_waiting += 1
        self._num_bytes += len(body)
        self._report()
        try:
            photo = await self._decode(body)
        finally:
            self._num_waiting -= 1
            self._num_bytes -= len(body)
            self._report()
        if isinstance(photo, Refusal):
            reason = photo.reason
            meaning = f" ({REASONS[reason]})" if reason in REASONS else ""
            hint = f": {FORMATS}" if reason in NO_PHOTOGRAPH else ""
            status = 413 if reason in TOO_LARGE else 415
            raise RequestError(f"{name} cannot be used: {reason.replace('_', ' ')}{meaning}{hint}", status)
        return photo

    async def _decode(self, body: bytes) -> Image.Image | Refusal:
        photo = await self._open(self._pool, body)
        if photo not in (Refusal(DECODER_TIMEOUT), Refusal(TOO_SLOW)):
            return photo
        if self._num_slow >= MAX_SLOW:
            raise RequestError(BUSY, 503)
        self._num_slow += 1
        try:
            return await self._open(self._slow_pool, body)
        finally:
            self._num_slow -= 1

    async def _open(self, pool: DecoderPool, body: bytes) -> Image.Image | Refusal:
        photo = await pool.open(body, self._least_size)
        if isinstance(photo, Refusal) and photo.reason in (DECODER_CRASHED, DECODER_TIMEOUT):
            metrics.DECODER_FAILURES.record(reason=photo.reason.removeprefix("decoder_"))
        return photo

    def _report(self) -> None:
        metrics.DECODING_PHOTOGRAPHS.record(self._num_waiting)
        metrics.DECODING_BYTES.record(self._num_bytes)

    def close(self) -> None:
        """Stop the processes."""
        self._pool.close()
        self._slow_pool.close()
