"""What tells that two photographs look the same, taken while their pixels are at hand.

The perceptual hash is pHash (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010) of
256 bits: the brightness, shrunk to 64 x 64, goes through a discrete cosine transform; each of the 16 x 16 lowest
frequencies, without the constant ones, is a bit that tells whether it is above their median. With 64 bits thousands
of photographs of different butterflies on one backdrop were taken for the same; of 256 bits, half differ between
photographs that have nothing to do with each other, and a few when one is a smaller or a worse copy.
`benchmarks/bench_duplicates.py` measures both. Turned, mirrored and strongly cropped copies are not recognised.
"""

import functools

import numpy as np
from PIL import Image

SIDE = 64  # px that the transform sees
FREQUENCIES = 16  # in each direction, a bit each
PHASH_BYTES = FREQUENCIES**2 // 8


def fingerprint(image: Image.Image) -> tuple[bytes, float]:
    """The perceptual hash (32 bytes) and the contrast of an RGB image.

    Contrast is the standard deviation of the brightness, 0 (one colour) to 127.5 (black and white).
    """
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.HAMMING, reducing_gap=2.0)
    pixels = np.asarray(grey, np.float32)
    waves = _waves()
    strengths = (waves @ pixels @ waves.T).ravel()
    middle = len(strengths) // 2
    median = np.partition(strengths, [middle - 1, middle])[middle - 1 : middle + 1].mean()
    return np.packbits(strengths > median).tobytes(), float(pixels.std())


@functools.cache
def _waves() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The DCT-II of 64 values, without the constant: 16 x 64."""
    positions, frequencies = 2 * np.arange(SIDE) + 1, np.arange(1, FREQUENCIES + 1)
    waves: np.ndarray[tuple[int, int], np.dtype[np.float32]] = np.cos(
        np.pi * frequencies[:, None] * positions / (2 * SIDE)
    ).astype(np.float32)
    return waves
