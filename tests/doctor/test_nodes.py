from typing import Any

import pytest

from aitax_ray.doctor.nodes import Node, judge_nodes

VERSIONS = {"python": "3.12.3", "ray": "2.60.0", "aitax-ray": "0.1.0", "torch": "2.9.0", "polars": "2.1.0"}
SAYS: dict[str, Any] = {
    "host": "one",
    "versions": VERSIONS,
    "source": "abc",
    "executable": "python",
    "open_files": 65536,
    "cpus": 8,
    "shm_bytes": 8 << 30,
    "temp_folder": "/tmp/ray",
    "temp_bytes": 100 << 30,
    "temp_free_bytes": 50 << 30,
    "gpus": None,
    "raylets": 1,
    "clock": 0.0,
}
HERE = Node("here", {"CPU": 8, "object_store_memory": 2e9}, SAYS, has_job_agent=True)


def other(clock_offset_s: tuple[float, float] = (-0.1, 0.1), gpus: float = 0, agent: bool = True, **says: Any) -> Node:
    return Node("there", HERE.resources | {"GPU": gpus}, SAYS | says, agent, clock_offset_s)


def test_nodes_that_are_alike_are_fine() -> None:
    found = judge_nodes([HERE, other()])
    assert [one.level for one in found] == ["ok"] * 3
    assert [one.text for one in found] == [
        "aitax-ray 0.1.0, ray 2.60.0, python 3.12.3, the same on 2 nodes",
        "2 answer: 16 CPUs and 0 GPUs for Ray; room, limits and clocks are fine",
        "2 of 2 nodes take jobs",
    ]


@pytest.mark.parametrize(
    ("node", "area", "level", "text"),
    [
        (other(versions=VERSIONS | {"ray": "2.59"}), "versions", "broken", "there has ray 2.59 (here 2.60.0)"),
        (other(versions=VERSIONS | {"polars": "1"}), "versions", "warning", "there has polars 1 (here 2.1.0)"),
        (other(source=None), "versions", "broken", "there lacks aitax-ray"),
        (other(source="xyz"), "versions", "broken", "same version from other source"),
        (other(open_files=1024), "limits", "warning", "lets a process open 1,024 files"),
        (other(shm_bytes=64 << 20), "limits", "warning", "0.1 GB in /dev/shm, Ray's object store has 2.0 GB"),
        (other(temp_free_bytes=1 << 30), "limits", "broken", "is 99% full: Ray writes nothing above 95%"),
        (other(temp_bytes=9 << 30, temp_free_bytes=2 << 30), "limits", "warning", "has 2.1 GB left"),
        (other(gpus=1), "GPUs", "warning", "offers 1 GPUs to Ray, but nvidia-smi does not work there"),
        (Node("there", {"CPU": 8}, SAYS | {"gpus": ["L4, 570"]}, True), "GPUs", "warning", "has L4, 570, which Ray"),
        (other(gpus=1, versions=VERSIONS | {"torch": "2.9.0+cpu"}), "GPUs", "broken", "a torch that cannot use them"),
        (other((3599, 3601)), "clock", "broken", "the clock of there is 3,599 s ahead of that of this machine"),
        (other((-20, -10)), "clock", "warning", "is 10 s behind"),
        (other((-9, 4)), "versions", "ok", "the same on 2 nodes"),
        (other(agent=False), "jobs", "warning", "there has no job agent (its port is taken): `ray job submit` may"),
        (other(agent=False, raylets=2), "jobs", "warning", "2 Ray nodes run on this machine"),
        (Node("there"), "nodes", "broken", "there does not answer"),
    ],
)
def test_a_node_that_differs_is_named_with_a_remedy(node: Node, area: str, level: str, text: str) -> None:
    found = [one for one in judge_nodes([HERE, node]) if one.area == area and one.level == level]
    assert any(text in one.text for one in found), judge_nodes([HERE, node])
    assert all(bool(one.remedy) == (one.level != "ok") for one in found)


def test_jobs_go_to_the_node_of_this_process_so_its_agent_is_needed() -> None:
    here = Node("here", HERE.resources, SAYS | {"raylets": 2}, has_job_agent=False)
    (found,) = [one for one in judge_nodes([here]) if one.area == "jobs"]
    assert found.level == "broken"
    assert "No available agent" in found.text
    assert "--dashboard-agent-listen-port" in found.remedy
