"""What a machine says about itself. Ray sends this module to each node by value, so it uses the standard library alone.

A node that lacks this package, or has another version of it, can so still answer.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata, util
from pathlib import Path
from typing import Any

PACKAGES = (
    *("aitax-ray", "ray", "torch", "torchvision", "pyarrow", "numpy", "polars", "duckdb", "onnxruntime"),
    *("onnxruntime-gpu", "scann", "pillow", "timm"),
)
OWN = "aitax_ray"


def describe_node(temp_folder: str | None = None) -> dict[str, Any]:
    """Describe this machine: versions, limits, room and clock, ready for JSON. `temp_folder` is where Ray spills."""
    folder = temp_folder if temp_folder and Path(temp_folder).exists() else tempfile.gettempdir()
    disk = shutil.disk_usage(folder)
    shm = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    return {
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version(), **_versions()},
        "source": _digest_of_source(),
        "executable": sys.executable,
        "open_files": _open_files(),
        "cpus": os.cpu_count() or 1,
        "shm_bytes": shm.total if shm else None,
        "temp_folder": folder,
        "temp_bytes": disk.total,
        "temp_free_bytes": disk.free,
        "gpus": _gpus(),
        "raylets": _count_raylets(),
        "clock": time.time(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _digest_of_source() -> str | None:
    """Digest of this package's modules. Two installations of one version may differ while it is developed."""
    spec = util.find_spec(OWN)
    if spec is None or not spec.submodule_search_locations:
        return None
    digest, folder = hashlib.sha256(), Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _gpus() -> list[str] | None:
    """Names and drivers of the GPUs. None: the machine has no NVIDIA driver, or it does not work."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _count_raylets() -> int | None:
    """Count the Ray nodes that run on this machine. None where /proc does not tell."""
    if not Path("/proc/self").exists():
        return None
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes().split(b"\0")[0].endswith(b"/raylet")
    return found
