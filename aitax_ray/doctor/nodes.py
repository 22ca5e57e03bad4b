"""Judges what the nodes of a cluster say about themselves. It knows nothing of Ray: look.py asks the nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aitax_ray.doctor.findings import Finding, Level

# With other versions of these, nodes exchange objects that they cannot read.
MUST_AGREE = ("python", "ray", "aitax-ray", "torch", "pyarrow", "numpy")
MIN_OPEN_FILES = 4096
MIN_SHM = 1 << 30
MIN_TEMP_FREE = 5 << 30
MAX_USED = 0.95  # Ray writes no more objects to a disk that is fuller
MAX_CLOCK_S = 5.0
# S3 refuses requests whose time differs by more (RequestTimeTooSkewed).
BROKEN_CLOCK_S = 15 * 60


@dataclass(frozen=True)
class Node:
    """A node: what Ray says of it, and what it says about itself (node.describe_node). None: it did not answer."""

    name: str
    resources: dict[str, float] = field(default_factory=dict)
    says: dict[str, Any] | None = None
    has_job_agent: bool | None = None
    """Whether jobs can run there. None: this is not known."""
    clock_offset_s: tuple[float, float] = (0.0, 0.0)
    """Its clock minus that of this machine: at least, at most."""


def judge_nodes(nodes: Sequence[Node]) -> list[Finding]:
    """Judge the nodes; the first one is that of this process, to which the others are compared."""
    found = [*_versions(nodes)]
    for node in nodes:
        if node.says is None:
            text = f"{node.name} does not answer"
            found.append(Finding("nodes", "broken", text, "look at its logs, or stop Ray there and start it again"))
            continue
        found += [*_limits(node, node.says), *_gpus(node, node.says), *_clock(node)]
    answered = [node for node in nodes if node.says is not None]
    if answered and not any(one.area in ("limits", "GPUs", "clock") for one in found):
        cpus, gpus = (sum(node.resources.get(key, 0) for node in answered) for key in ("CPU", "GPU"))
        text = f"{len(answered)} answer: {cpus:g} CPUs and {gpus:g} GPUs for Ray; room, limits and clocks are fine"
        found.append(Finding("nodes", "ok", text))
    return [*found, *_job_agents(nodes)]


def _versions(nodes: Sequence[Node]) -> Iterator[Finding]:
    answered = [(node.name, node.says) for node in nodes if node.says is not None]
    if not answered:
        return
    here = answered[0][1]
    differs = False
    for name, says in answered[1:]:
        ours, theirs = here["versions"], says["versions"]
        if says["source"] is None:
            differs = True
            remedy = "install it there (setup_commands of the cluster file), or give jobs a runtime_env with pip"
            yield Finding("versions", "broken", f"{name} lacks aitax-ray", remedy)
            continue
        wrong = [package for package in here["versions"] | theirs if ours.get(package) != theirs.get(package)]
        if wrong:
            differs = True
            text = ", ".join(f"{p} {theirs.get(p, 'none')} (here {ours.get(p, 'none')})" for p in wrong)
            level: Level = "broken" if set(wrong) & set(MUST_AGREE) else "warning"
            yield Finding("versions", level, f"{name} has {text}", "install the same versions on every node")
        elif says["source"] != here["source"]:
            differs = True
            remedy = "install it anew on every node, or submit jobs with --working-dir . so that all use one source"
            yield Finding("versions", "broken", f"{name} has aitax-ray of the same version from other source", remedy)
    if not differs:
        shown = ", ".join(f"{name} {here['versions'].get(name, 'none')}" for name in ("aitax-ray", "ray", "python"))
        yield Finding("versions", "ok", shown if len(answered) == 1 else f"{shown}, the same on {len(answered)} nodes")


def _limits(node: Node, says: dict[str, Any]) -> Iterator[Finding]:
    if says["open_files"] is not None and 0 <= says["open_files"] < MIN_OPEN_FILES:
        text = f"{node.name} lets a process open {says['open_files']:,} files"
        yield Finding("limits", "warning", text, "run `ulimit -n 65536` before `ray start`")
    store = node.resources.get("object_store_memory", MIN_SHM)
    if says["shm_bytes"] is not None and says["shm_bytes"] < store:
        text = f"{node.name} has {_gb(says['shm_bytes'])} in /dev/shm, Ray's object store has {_gb(store)}"
        remedy = f"in a container, give it more (--shm-size={int(store * 1.3) >> 20}m); else use --object-store-memory"
        yield Finding("limits", "warning", text, remedy)
    used = 1 - says["temp_free_bytes"] / max(says["temp_bytes"], 1)
    where = f"{says['temp_folder']} of {node.name}, where Ray's objects go when memory is full,"
    if used > MAX_USED:
        text = f"{where} is {used:.0%} full: Ray writes nothing above {MAX_USED:.0%}"
        yield Finding("limits", "broken", text, "delete files there, or start Ray with --temp-dir on a larger disk")
    elif says["temp_free_bytes"] < MIN_TEMP_FREE:
        text = f"{where} has {_gb(says['temp_free_bytes'])} left"
        yield Finding("limits", "warning", text, "delete files there, or start Ray with --temp-dir on a larger disk")


def _gpus(node: Node, says: dict[str, Any]) -> Iterator[Finding]:
    known, seen = node.resources.get("GPU", 0), says["gpus"]
    if known and seen is None:
        text = f"{node.name} offers {known:g} GPUs to Ray, but nvidia-smi does not work there"
        yield Finding("GPUs", "warning", text, "install NVIDIA's driver, or start Ray there with --num-gpus=0")
    elif seen and not known and node.resources:
        text = f"{node.name} has {seen[0]}, which Ray does not offer"
        yield Finding("GPUs", "warning", text, "start Ray there with --num-gpus, or without CUDA_VISIBLE_DEVICES")
    if known and "+cpu" in says["versions"].get("torch", ""):
        text = f"{node.name} has {known:g} GPUs, and a torch that cannot use them ({says['versions']['torch']})"
        yield Finding("GPUs", "broken", text, "install torch for CUDA there: see https://pytorch.org")


def _clock(node: Node) -> Iterator[Finding]:
    least, most = node.clock_offset_s
    off = least if least > 0 else most if most < 0 else 0.0
    if abs(off) > MAX_CLOCK_S:
        text = (
            f"the clock of {node.name} is {abs(off):,.0f} s {'ahead of' if off > 0 else 'behind'} that of this machine"
        )
        level: Level = "broken" if abs(off) > BROKEN_CLOCK_S else "warning"
        yield Finding("clock", level, text, "start a time service there, such as chrony or systemd-timesyncd")


def _job_agents(nodes: Sequence[Node]) -> Iterator[Finding]:
    for node in nodes:
        if node.has_job_agent is not False:
            continue
        several = node.says is not None and (node.says["raylets"] or 0) > 1
        why = f"{node.says['raylets']} Ray nodes run on this machine" if several and node.says else "its port is taken"
        text = f'{node.name} has no job agent ({why}): `ray job submit` may answer "No available agent"'
        remedy = (
            "stop the other Ray, or start this one with `ray start --dashboard-agent-listen-port=PORT`; "
            "a node that has just started needs some 10 s"
        )
        yield Finding("jobs", "broken" if node is nodes[0] else "warning", text, remedy)
    if nodes and all(node.has_job_agent for node in nodes):
        yield Finding("jobs", "ok", f"{len(nodes)} of {len(nodes)} nodes take jobs")


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
