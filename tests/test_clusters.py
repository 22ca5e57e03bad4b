"""clusters/: Ray and its providers accept the files, and `ray up` of the on-premise file makes a cluster that works.

The trial with `ray up` runs on two hosts with addresses of their own, see hosts.py. It shows that the set-up and
start commands, the token, ssh, rsync, the job and `ray down` work between hosts that share no process. It does not show
the installation from an index, since the hosts find the package of the tests, nor networks that lose packets. Where
this machine allows no hosts the trial is skipped, except in CI.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aitax_ray.serving.serve import FAST
from tests import hosts

ROOT = Path(__file__).parents[1]
FILES = ["aws", "gcp", "on-premise"]
# What the words in capitals stand for.
FILLED_IN = {
    **{"UBUNTU_AMI": "ami-12c6146b", "GPU_AMI": "ami-12c6146b", "PROFILE_FOR_YOUR_BUCKET": "frogs"},
    **{"PROJECT": "frogs-1", "GPU_IMAGE": "projects/frogs/global/images/gpu"},
    **{"SERVICE_ACCOUNT_FOR_YOUR_BUCKET": "frogs@frogs-1.iam.gserviceaccount.com"},
    **{"HEAD_ADDRESS": "192.168.1.10", "WORKER_ADDRESS": "192.168.1.11", "USER": "ann"},
}
RAY_S = 600  # a busy machine


def read_file(name: str) -> dict[str, Any]:
    """Read a cluster file, filled in."""
    text = (ROOT / "clusters" / f"{name}.yaml").read_text(encoding="utf-8")
    for word, value in FILLED_IN.items():
        text = re.sub(rf"\b{word}\b", value, text)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def prepare(name: str) -> dict[str, Any]:
    """Complete and check a file as `ray up` does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(read_file(name))
    validate_config(config)
    return config


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file_and_every_word_in_capitals_is_explained(name: str) -> None:
    prepare(name)
    text = (ROOT / "clusters" / f"{name}.yaml").read_text(encoding="utf-8")
    settings = re.sub(r"#.*|RAY_\w+|PERSISTENT|SPOT|DELETE|TERMINATE|OMP_NUM_THREADS|PATH|HOME", "", text)
    assert set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", settings)) <= FILLED_IN.keys()


def test_the_file_to_begin_with_is_that_for_machines_of_your_own() -> None:
    assert (ROOT / "cluster.yaml").resolve() == ROOT / "clusters/on-premise.yaml"


def test_the_guide_sets_what_the_files_need_before_it_uses_them() -> None:
    guide = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    needed = {"RAY_AUTH_MODE=token"} | {
        variable
        for path in (ROOT / "clusters").glob("*.yaml")
        for variable in re.findall(r"export (RAY_\w+=\w+)", path.read_text(encoding="utf-8"))
    }
    parts = [*(f"export {variable}" for variable in sorted(needed)), "ray up", "ray dashboard", "ray job submit"]
    order = [guide.index(part) for part in [*parts, "serve deploy serve_config.yaml"]]
    assert order == sorted(order)


@pytest.mark.parametrize("name", FILES)
def test_every_node_installs_this_version_and_asks_for_the_token(name: str) -> None:
    from aitax_ray import __version__

    config = prepare(name)
    for kind in ("head", "worker"):
        commands = " ".join(config[f"{kind}_setup_commands"])
        assert f"=={__version__}" in commands
        assert "RAY_AUTH_MODE=token" in commands
        assert "unset OMP_NUM_THREADS" in " ".join(config[f"{kind}_start_ray_commands"])
    assert "~/.ray/auth_token" in config["file_mounts"]


def exported_by(script: str, home: Path) -> dict[str, str]:
    """Run a script in bash, and return the settings of Ray Serve that it leaves in the environment."""
    variables = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", f"{script}\nenv"], env=variables, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {key: value for key, value in found.items() if key.startswith("RAY_SERVE_")}


@pytest.mark.parametrize("name", FILES)
def test_every_node_has_the_fast_front_end_of_the_service(name: str, tmp_path: Path) -> None:
    writes = [command for command in prepare(name)["worker_setup_commands"] if "aitax.env" in command]
    script = "\n".join([*writes, *writes, ". ~/.bashrc"])  # `ray up` again
    assert exported_by(script, tmp_path) == FAST
    assert (tmp_path / ".bashrc").read_text(encoding="utf-8") == ". ~/aitax.env\n"


def test_the_guide_exports_the_same_settings_of_the_front_end(tmp_path: Path) -> None:
    guide = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n(export RAY_SERVE_.*?)```", guide, re.DOTALL)
    assert exported_by(block, tmp_path) == FAST


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_workers_come_from_zero_and_only_what_may_be_lost_is_on_spot_machines(name: str) -> None:
    config = prepare(name)
    types = config["available_node_types"]
    assert {kind for kind, node in types.items() if node["min_workers"]} == set()
    assert types["head"]["resources"] == {"CPU": 0}
    is_spot = {
        kind: "InstanceMarketOptions" in node["node_config"] or "scheduling" in node["node_config"]
        for kind, node in types.items()
    }
    assert is_spot == {"head": False, "cpu": True, "gpu": True, "steady": False}
    labels = {kind: node["labels"]["ray.io/market-type"] for kind, node in types.items()}
    assert labels == {kind: "spot" if spot else "on-demand" for kind, spot in is_spot.items()}


def test_aws_takes_every_kind_of_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's provider asks moto's EC2, which checks each request by botocore's model of it."""
    moto = pytest.importorskip("moto")
    for name, value in {
        **{"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws():
        import boto3
        from ray.autoscaler._private.aws.config import bootstrap_aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        iam = boto3.client("iam")
        for profile in ("frogs", "ray-autoscaler-v1"):  # the second is Ray's: it waits half a minute after making one
            iam.create_instance_profile(InstanceProfileName=profile)
            iam.create_role(RoleName=profile, AssumeRolePolicyDocument="{}")
            iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=profile)
        config = bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(prepare("aws")))
        types = config["available_node_types"]
        assert {kind: node["resources"].get("CPU") for kind, node in types.items()} == {
            **{"head": 0, "cpu": 16, "gpu": 16, "steady": 16}
        }
        assert types["gpu"]["resources"]["GPU"] == 1
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for kind, node in types.items():
            provider.create_node(node["node_config"], {"ray-node-kind": kind}, 1)
        made = boto3.resource("ec2").instances.all()
        kinds = {tag["Value"]: one for one in made for tag in one.tags if tag["Key"] == "ray-node-kind"}
        assert {kind: one.instance_lifecycle for kind, one in kinds.items()} == {
            **{"head": None, "cpu": "spot", "gpu": "spot", "steady": None}
        }


def test_google_knows_every_field_of_every_kind_of_node() -> None:
    """The fields are looked up in Google's description of its interface, which comes with its client."""
    discovery = pytest.importorskip("googleapiclient.discovery_cache")
    schemas = json.loads(discovery.get_static_doc("compute", "v1"))["schemas"]

    def check(value: Any, schema: dict[str, Any], where: str) -> None:
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, dict):
            for name, part in value.items():
                assert name in schema["properties"], f"{where}.{name} is no field"
                check(part, schema["properties"][name], f"{where}.{name}")
        elif isinstance(value, list):
            assert schema["type"] == "array", where
            for part in value:
                check(part, schema["items"], where)
        else:
            assert {bool: "boolean", str: "string", int: "integer"}[type(value)] == schema["type"], where
            assert value in schema.get("enum", [value]), where

    for kind, node in prepare("gcp")["available_node_types"].items():
        check(node["node_config"], {"$ref": "Instance"}, kind)


# Waits until the cluster has the nodes, and prints their addresses.
WAIT = """
import logging, sys, threading, ray
ray.init(logging_level=logging.ERROR)
for _ in range(1200):
    found = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
    if len(found) >= int(sys.argv[1]):
        break
    threading.Event().wait(0.5)
print("nodes", *found)
"""


@pytest.mark.ray
def test_ray_up_makes_a_cluster_of_machines_with_ssh(tmp_path: Path) -> None:
    if lacks := hosts.missing():
        assert "CI" not in os.environ, f"CI must run this: {lacks}"
        pytest.skip(lacks)
    environment = {"RAY_UP_enable_autoscaler_v2": "0", "RAY_AUTH_MODE": "token", "NO_COLOR": "1"}
    with hosts.hosts(["head", "worker"], tmp_path) as found:

        def run(*command: str | Path, stdin: str | None = None) -> str:
            done = found.run(*command, timeout_s=RAY_S, stdin=stdin, env=environment)
            assert done.returncode == 0, done.stdout[-4000:]
            return done.stdout

        config = read_file("on-premise") | {"cluster_name": tmp_path.name}
        config["provider"] |= {"head_ip": found.addresses[0], "worker_ips": found.addresses[1:]}
        # ssh looks for ~ in the home folder of the account.
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(found.home / ".ssh/id_ed25519")}
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        (tmp_path / "wait.py").write_text(WAIT, encoding="utf-8")

        run("ray", "get-auth-token", "--generate")
        run("ray", "up", "-y", "--no-config-cache", file)
        nodes = run("ray", "exec", file, f"python {tmp_path}/wait.py 2")
        assert f"nodes {' '.join(found.addresses)}" in nodes

        typed = "echo this is $(hostname) with mode $RAY_AUTH_MODE; exit\n"
        assert "this is head with mode token" in run("ray", "attach", file, stdin=typed)

        address = ["--address", f"http://{found.addresses[0]}:8265"]
        project = tmp_path / "project"
        project.mkdir()
        job = ["--working-dir", ROOT, "--", "python", "-m", "aitax_ray.cli", "doctor", "--json", "--root", project]
        answer = run("ray", "job", "submit", *address, *job)
        findings = json.loads(re.findall(r"^\[$.*?^\]$", answer, flags=re.MULTILINE | re.DOTALL)[0])
        assert {one["area"] for one in findings if one["level"] == "broken"} == set()
        texts = [one["text"] for one in findings if one["level"] == "ok"]
        assert any("the same on 2 nodes" in text for text in texts), texts
        assert any("all 2 nodes see and write the same" in text for text in texts), texts
        assert any("2 of 2 nodes take jobs" in text for text in texts), texts

        run("ray", "down", "-y", file)
        assert found.on(found.addresses[0], "pgrep gcs_server").stdout == "", "Ray still runs on the head"
