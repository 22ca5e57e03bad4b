"""images.memory: estimates are above what is taken, and freed blocks go back to the system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Measures in a process of its own, whose peak the kernel can forget.
MEASURE = """
import io, sys
from PIL import Image
from aitax_ray.images.decode import normalize
from tests.web import encoded, picture

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

large = picture("a", (2400, 1800))
see_through = large.copy()
see_through.putalpha(Image.linear_gradient("L").resize(large.size))
deep = large.convert("L").convert("I").point(lambda v: v * 257).convert("I;16")
FILES = {
    "jpeg": lambda: encoded(large),
    "cmyk": lambda: encoded(large.convert("CMYK")),
    "progressive": lambda: encoded(large, progressive=True, subsampling=0),
    "progressive cmyk": lambda: encoded(large.convert("CMYK"), progressive=True),
    "png": lambda: encoded(large, "PNG", compress_level=1),
    "png alpha": lambda: encoded(see_through, "PNG", compress_level=1),
    "png grey alpha": lambda: encoded(see_through.convert("LA"), "PNG", compress_level=1),
    "png 16": lambda: encoded(deep, "PNG", compress_level=1),
    "png 1": lambda: encoded(large.convert("1"), "PNG", compress_level=1),
    "gif": lambda: encoded(large, "GIF"),
    "tiff 32": lambda: encoded(large.convert("F"), "TIFF"),
    "bmp": lambda: encoded(large, "BMP"),
    "webp": lambda: encoded(large, "WEBP", method=0),
    "webp alpha": lambda: encoded(see_through, "WEBP", method=0),
    "avif": lambda: encoded(large, "AVIF", speed=10),
    "heic": lambda: encoded(large, "HEIF"),
}
import pillow_heif
pillow_heif.register_heif_opener()
for name, make in FILES.items():
    try:
        body = make()
    except (KeyError, OSError, RuntimeError):  # no encoder for HEIC
        continue
    normalize(encoded(picture("a")), 64)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, reserved = status("VmRSS"), []
    normalize(body, 64, reserve=lambda num_bytes, _: reserved.append(num_bytes))
    print(name, reserved[0], status("VmHWM") - before, sep=",")
"""
# 8 threads free blocks of 20 MB from below blocks that stay.
FREE = """
import sys, threading
from aitax_ray.images.memory import give_back_memory
if sys.argv[1] == "give back":
    give_back_memory()
del_me = b"x" * (31 << 20)
del del_me  # glibc now keeps blocks of that size
stay, barrier = [], threading.Barrier(8)
def work():
    blocks = [b"x" * (20 << 20), b"x" * 100_000]
    barrier.wait()
    stay.append(blocks.pop())
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with open("/proc/self/statm") as file:
    print(int(file.read().split()[1]) * 4096)
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, calls glibc")


def run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


@needs_linux
def test_the_estimate_of_memory_is_enough_for_every_kind_of_file() -> None:
    rows = [line.split(",") for line in run(MEASURE).splitlines()]
    assert len(rows) >= 15
    for name, reserved, peak in rows:
        assert int(peak) <= int(reserved), (name, reserved, peak)
    taken = {name: int(reserved) for name, reserved, _ in rows}
    # A JPEG is decoded at a fraction of its size, unless it is progressive.
    assert taken["jpeg"] < 10e6 < taken["progressive"] < taken["png alpha"] < taken["webp"] < 100e6


@needs_linux
def test_freed_blocks_go_back_to_the_system() -> None:
    kept, given_back = (int(run(FREE, mode)) for mode in ("keep", "give back"))
    assert given_back < 60e6
    assert kept > given_back + 100e6  # what glibc does by itself: else give_back_memory is not needed
