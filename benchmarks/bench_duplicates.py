"""Which copies does the perceptual hash recognise, what does the index find of them, and how does it grow?

The claims: smaller, recompressed, grey and brighter copies are found, cropped ones only when next to nothing was cut
off; among photographs of different individuals on one backdrop hardly any are taken for copies, where 64 bits take
thousands; the index finds what comparing all with all finds, and goes on where that ends: a million hashes in seconds,
ten million in minutes.

    python benchmarks/bench_duplicates.py                          hashes only, up to a million: some minutes
    python benchmarks/bench_duplicates.py --photos FOLDER          and what becomes of copies of these photographs
    python benchmarks/bench_duplicates.py --hashes 10000000        ten million: 3 GB

Peers: comparing all with all (NumPy, blockwise, on the same core), and the 64-bit pHash that most programs use, which
is computed from the same brightness.
"""

import argparse
import io
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from aitax_ray.dataset.similar import clusters
from aitax_ray.images.fingerprint import FREQUENCIES, SIDE, fingerprint

MAX_DISTANCE = 16
PLANTED = 0.05  # share of hashes that are copies of others, at distances up to MAX_DISTANCE
ALL_PAIRS = 30_000  # hashes that are compared all with all
NUM_PHOTOS = 200  # that are altered
SHORT_SIDE = 300
SUFFIXES = {".jpg", ".jpeg", ".png"}


def crop(image: Image.Image, share: float) -> Image.Image:
    """Cut a share of the side off at each side."""
    x, y = round(share * image.width), round(share * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """Through JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": lambda image: recompress(image, 50),
    "JPEG, quality 25": lambda image: recompress(image, 25),
    "half the size": lambda image: recompress(image.resize((image.width // 2, image.height // 2)), 85),
    "a third of the size": lambda image: recompress(image.resize((image.width // 3, image.height // 3)), 85),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "15 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "0.5 % cropped": lambda image: crop(image, 0.005),
    "1 % cropped": lambda image: crop(image, 0.01),
    "2 % cropped": lambda image: crop(image, 0.02),
    "5 % cropped": lambda image: crop(image, 0.05),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def wide(image: Image.Image) -> np.ndarray:
    """The hash that the download notes."""
    return np.frombuffer(fingerprint(image)[0], np.uint8)


def narrow(image: Image.Image) -> np.ndarray:
    """pHash as it is common: 32 x 32, of which the 8 x 8 lowest frequencies."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    waves = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1) / 64)
    strengths = (waves @ grey @ waves.T).ravel()
    return np.packbits(strengths > np.median(strengths))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bits in which they differ."""
    return np.bitwise_count(one ^ other).sum(axis=-1)


def look(folder: Path) -> None:
    """Copies of photographs, and photographs that are none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    images = [Image.open(path).convert("RGB") for path in random.Random(0).sample(paths, min(len(paths), NUM_PHOTOS))]
    for image in images:
        image.thumbnail((2 * SHORT_SIDE, 2 * SHORT_SIDE))
    report(f"\n{len(images)} photographs of {folder.name}, altered; bits that differ, and share found")
    report(f"{'':<22} {'256 bits':>22} {'64 bits':>22}")
    report(f"{'':<22} {'median  95 %   <= 16':>22} {'median  95 %    <= 4':>22}")
    for name, alter in ALTERED.items():
        cells = []
        for take, most in ((wide, MAX_DISTANCE), (narrow, 4)):
            found = np.array([distances(take(image), take(alter(image))) for image in images])
            cells.append(f"{np.median(found):6.0f} {np.percentile(found, 95):5.0f} {(found <= most).mean():8.0%}")
        report(f"{name:<22} {cells[0]:>22} {cells[1]:>22}")
    every = [Image.open(path).convert("RGB") for path in paths[:3000]]
    for take, bits, most in ((wide, FREQUENCIES**2, MAX_DISTANCE), (narrow, 64, 4)):
        hashes = np.array([take(image) for image in every])
        near = sum(int((distances(hashes[i], hashes[i + 1 :]) <= most).sum()) for i in range(len(hashes)))
        report(f"{bits} bits: of {len(every):,} photographs {near:,} pairs are within {most} bits")
    begin = time.process_time()
    for image in images:
        wide(image)
    report(f"the hash takes {(time.process_time() - begin) / len(images) * 1e3:.2f} ms of {SIDE} x {SIDE} brightness")


def plant(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random hashes with copies of some at every distance up to MAX_DISTANCE; the places of originals and copies."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 256, (num, 32), np.uint8)
    copies = np.arange(num - int(PLANTED * num), num)
    originals = chance.integers(0, copies[0], len(copies))
    bits = np.unpackbits(hashes[originals], axis=1)
    wanted = chance.integers(0, MAX_DISTANCE + 1, len(copies))
    order = np.argsort(chance.random(bits.shape, np.float32), axis=1)[:, :MAX_DISTANCE]
    for place in range(MAX_DISTANCE):
        rows = np.flatnonzero(wanted > place)
        bits[rows, order[rows, place]] ^= 1
    hashes[copies] = np.packbits(bits, axis=1)
    return hashes, originals, copies


def all_pairs(hashes: np.ndarray) -> int:
    """Pairs within MAX_DISTANCE, by comparing all with all."""
    words, found = hashes.view(np.uint64), 0
    for row in range(len(words)):
        near = np.bitwise_count(words[row] ^ words[row + 1 :]).sum(axis=1, dtype=np.uint16) <= MAX_DISTANCE
        found += int(near.sum())
    return found


def main() -> None:
    """Photographs first, then growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with photographs")
    parser.add_argument("--hashes", type=int, nargs="*", default=[ALL_PAIRS, 100_000, 1_000_000])
    given = parser.parse_args()
    if given.photos:
        look(given.photos)
    report(f"\n{'hashes':>12} {'s':>8} {'us a hash':>10} {'found':>8} {'wrong':>6} {'peak MB':>8}")
    for num in given.hashes:
        hashes, originals, copies = plant(num)
        begin = time.monotonic()
        found = clusters(hashes, MAX_DISTANCE)
        wall_s = time.monotonic() - begin
        hits = (found[originals] == found[copies]).mean()
        wrong = int((found != np.arange(num)).sum()) - int((found[copies] != copies).sum())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        report(f"{num:>12,} {wall_s:>8.1f} {wall_s / num * 1e6:>10.1f} {hits:>8.2%} {wrong:>6,} {peak:>8,.0f}")
        if num == ALL_PAIRS:
            begin = time.monotonic()
            pairs = all_pairs(hashes)
            theirs = time.monotonic() - begin
            report(
                f"{'all pairs':>12} {theirs:>8.1f}   {pairs:,} pairs: the index is {theirs / wall_s:.0f} times as fast"
            )


def report(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
