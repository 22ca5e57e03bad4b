"""Describe a photograph by a perceptual hash, which is nearly the same for photographs that look the same.

The perceptual hash is pHash (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010) of
256 bits. The brightness, shrunk to 64 x 64, goes through a discrete cosine transform. Each of the 16 x 16 lowest
frequencies, without the constant ones, gives one bit: whether it is above their median. A hash of 64 bits took
thousands of photographs of different butterflies on the same background for one. With 256 bits, half of the bits
differ between unrelated photographs, and few between a photograph and a smaller or worse copy.
`benchmarks/bench_duplicates.py` measures both. Rotated, mirrored and strongly cropped copies are not recognised.

The package imagehash computes the same kind of hash in 21 ms per photograph of 224 px, which is more than decoding it
takes. This module takes 0.3 ms and needs no SciPy.
"""

import functools

import numpy as np
from PIL import Image

SIDE = 64  # px of the image that is transformed
FREQUENCIES = 16  # in each direction; each pair gives a bit
PHASH_BYTES = FREQUENCIES**2 // 8


def fingerprint(image: Image.Image) -> tuple[bytes, float]:
    """Compute the perceptual hash (32 bytes) and the contrast of an RGB image.

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
    """Compute the matrix (16, 64) of the DCT-II of 64 values, without its constant row."""
    positions, frequencies = 2 * np.arange(SIDE) + 1, np.arange(1, FREQUENCIES + 1)
    waves: np.ndarray[tuple[int, int], np.dtype[np.float32]] = np.cos(
        np.pi * frequencies[:, None] * positions / (2 * SIDE)
    ).astype(np.float32)
    return waves
