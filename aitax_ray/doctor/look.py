"""Asks a Ray cluster what `aitax doctor` judges: its nodes, its dashboard, its job agents."""

import json
import logging
import os
import time
import urllib.error
import urllib.request
from typing import Any

from aitax_ray.cluster import TOKEN_REMEDY, connect
from aitax_ray.doctor import node as node_module
from aitax_ray.doctor.findings import Finding
from aitax_ray.doctor.node import describe_node
from aitax_ray.doctor.nodes import Node
from aitax_ray.doctor.place import Marker, judge_views, look_for
from aitax_ray.errors import ClusterError

log = logging.getLogger(__name__)

NODE_TIMEOUT_S = 120.0  # a worker process has to start there
DASHBOARD_TIMEOUT_S = 30.0
AGENT_KEY = "DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX:"


def look_at_cluster(root: str | None) -> tuple[list[Node], list[Finding]]:
    """Join the cluster at RAY_ADDRESS, and ask all its nodes. The first node is that of this process.

    Returns the nodes, and what the dashboard and the root look like from there. Without a cluster the one node is this
    machine.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith(("http://", "https://")):
        remedy = "for the rest: ray job submit -- aitax doctor, or RAY_ADDRESS=auto on a node of the cluster"
        only = Finding("cluster", "warning", "RAY_ADDRESS is a dashboard: only that is checked", remedy)
        return [Node("this machine", says=describe_node())], [*check_dashboard(address), only]
    if not address:
        here = Node("this machine", says=describe_node())
        text = "RAY_ADDRESS is not set: stages start a Ray of their own on this machine"
        if here.says is not None and here.says["raylets"]:
            text += "; another Ray runs here, which RAY_ADDRESS=auto would join"
        return [here], [Finding("cluster", "ok", text)]
    try:
        connect()
    except ClusterError as error:
        text, _, remedy = str(error).rpartition(": ")
        return [Node("this machine", says=describe_node())], [Finding("cluster", "broken", text, remedy)]
    import ray

    own_id = ray.get_runtime_context().get_node_id()
    alive = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: (n["NodeID"] != own_id, n["NodeID"]))
    findings = [Finding("cluster", "ok", f"joined at {address}: {len(alive)} nodes")]
    url = ray._private.worker.get_dashboard_url()
    findings += check_dashboard(f"http://{url}") if url else [_no_dashboard()]
    nodes = _ask(alive)
    if root is not None and len(alive) > 1:
        findings += _look_at_root(root, alive)
    return nodes, findings


def check_dashboard(url: str) -> list[Finding]:
    """Ask the dashboard for its version, with the token if there is one, and without."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    status, text = _get(f"{url}/api/version", get_auth_headers_if_auth_enabled({}))
    if status == 401 or status == 403:
        return [Finding("dashboard", "broken", f"{url} refuses: HTTP {status}", TOKEN_REMEDY)]
    if status != 200:
        return [Finding("dashboard", "broken", f"{url} does not answer ({text})", _no_dashboard().remedy)]
    found = [Finding("dashboard", "ok", f"{url} answers")]
    if _get(f"{url}/api/version", {})[0] == 200:
        remedy = "start the head with RAY_AUTH_MODE=token, after `ray get-auth-token --generate`; see docs/cluster.md"
        text = f"{url} needs no token: whoever reaches it can run programs on every node"
        found.append(Finding("token", "warning", text, remedy))
    else:
        found.append(Finding("token", "ok", "the dashboard asks for a token, and takes ours"))
    return found


def _no_dashboard() -> Finding:
    remedy = "start the head without --include-dashboard=false; from another machine: ray dashboard CLUSTER.yaml"
    return Finding("dashboard", "warning", "the cluster has no dashboard: no jobs, no `serve deploy`", remedy)


def _get(url: str, headers: dict[str, str]) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=DASHBOARD_TIMEOUT_S
        ) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        return error.code, str(error)
    except (OSError, ValueError) as error:
        return 0, str(error)


def _ask(alive: list[dict[str, Any]]) -> list[Node]:
    """Let each node describe itself. A node that does not answer in time has no description."""
    import ray
    from ray import cloudpickle
    from ray.experimental import internal_kv

    # Nodes without this package, or with another version of it, answer too.
    cloudpickle.register_pickle_by_value(node_module)
    try:
        describe = ray.remote(num_cpus=0, max_retries=0)(describe_node)
        this: Any = ray._private.worker._global_node
        folder = this.get_session_dir_path()
        asked = [(node, describe.options(scheduling_strategy=_on(node)).remote(folder)) for node in alive]
        nodes, sent = [], time.time()
        deadline = time.monotonic() + NODE_TIMEOUT_S
        for node, answer in asked:
            try:
                says = ray.get(answer, timeout=max(0.1, deadline - time.monotonic()))
            except ray.exceptions.RayError as error:
                log.debug("%s: %s", node["NodeID"], error)
                says = None
            offset = (says["clock"] - time.time(), says["clock"] - sent) if says else (0.0, 0.0)
            key = f"{AGENT_KEY}{node['NodeID']}"
            agent = internal_kv._internal_kv_get(key, namespace="dashboard")
            has_agent = agent is not None and json.loads(agent)[1] > 0
            nodes.append(Node(_name(node), node["Resources"], says, has_agent, offset))
        return nodes
    finally:
        cloudpickle.unregister_pickle_by_value(node_module)


def _look_at_root(root: str, alive: list[dict[str, Any]]) -> list[Finding]:
    import ray

    look, wrong = ray.remote(num_cpus=0, max_retries=0)(look_for), {}
    with Marker(root) as marker:
        asked = {
            _name(n): look.options(scheduling_strategy=_on(n)).remote(marker.storage.root, marker.path) for n in alive
        }
        for name, answer in asked.items():
            try:
                wrong[name] = ray.get(answer, timeout=NODE_TIMEOUT_S)
            except ray.exceptions.RayTaskError as error:
                wrong[name] = " ".join(str(error.cause).split())
            except ray.exceptions.RayError as error:
                wrong[name] = f"no answer ({type(error).__name__})"
    return judge_views(marker.storage.address(), wrong)


def _on(node: dict[str, Any]) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeName']} ({node['NodeID'][:8]})"
