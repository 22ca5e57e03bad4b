"""kubernetes/: the manifests are what KubeRay takes. They agree with serve_config.yaml, the image, the command line."""

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from referencing import Registry

from aitax_ray.cli import app
from aitax_ray.serving.serve import FAST
from tests.kuberay import MANIFESTS, ROOT, main, problems, read_crds, registry

# By way of JSON, which has no anchors: a change at one place of a document changes no other.
DOCUMENTS = {path.stem: json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")))) for path in MANIFESTS}
CLUSTERS = {
    "raycluster": DOCUMENTS["raycluster"]["spec"],
    "rayservice": DOCUMENTS["rayservice"]["spec"]["rayClusterConfig"],
}


@pytest.fixture(scope="module")
def schemas() -> Registry[Any]:
    return registry()


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def container(group: dict[str, Any]) -> dict[str, Any]:
    (found,) = group["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def guide_claim() -> dict[str, Any]:
    """The claim, volume and mount of the guide."""
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "PersistentVolumeClaim" in text)
    claim, pod = yaml.safe_load_all(block)
    return {"claim": claim, **pod}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_fits_the_schemas_of_kuberay_and_kubernetes(name: str, schemas: Registry[Any]) -> None:
    assert problems(DOCUMENTS[name], schemas) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.autoscaling", True),
        ("spec.rayVersion", 2.6),
        ("spec.authOptions.mode", "tokens"),
        ("spec.autoscalerOptions.resources.request", {}),
        ("spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.headGroupSpec.template.spec.container", []),
        ("spec.headGroupSpec.template.spec.securityContext.runAsRoot", False),
        ("spec.workerGroupSpecs.0.minReplica", 0),
        ("spec.workerGroupSpecs.1.template.spec.containers.0.livenessProbe.httpGet.uri", "/"),
        ("spec.workerGroupSpecs.1.template.spec.containers.0.envFrom.0.secretRef.file", "keys"),
        ("metadata.label", {}),
    ],
)
def test_a_wrong_key_or_value_is_found(place: str, value: object, schemas: Registry[Any]) -> None:
    document = copy.deepcopy(DOCUMENTS["raycluster"])
    *parents, key = place.split(".")
    node: Any = document
    for parent in parents:
        node = node[int(parent)] if parent.isdecimal() else node[parent]
    node[key] = value
    assert len(problems(document, schemas)) == 1


def test_the_definitions_that_kuberay_publishes_decide_where_they_are_given(
    tmp_path: Path, schemas: Registry[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"type": "object", "properties": {"entrypoint": {"type": "string"}}}
    root = {"type": "object", "properties": {name: {} for name in ("apiVersion", "kind", "metadata")} | {"spec": spec}}
    versions = [{"name": "v1alpha1"}, {"name": "v1", "schema": {"openAPIV3Schema": root}}]
    crd = tmp_path / "ray.io_rayjobs.yaml"
    crd.write_text(yaml.safe_dump({"spec": {"names": {"kind": "RayJob"}, "versions": versions}}), encoding="utf-8")
    (found,) = problems(DOCUMENTS["rayjob"], schemas, read_crds([crd]))
    assert "'clusterSelector', 'entrypointNumCpus', 'submitterConfig' were unexpected" in found
    monkeypatch.setattr("sys.argv", ["kuberay", str(crd)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code
    expected = {
        "raycluster": "no definition of RayCluster is given",
        "rayjob": found,
        "rayservice": "no definition of RayService is given",
    }
    assert capsys.readouterr().out == "".join(f"{name}.yaml: wrong\n{text}\n" for name, text in expected.items())


def test_the_ray_service_serves_what_serve_config_says() -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(DOCUMENTS["rayservice"]["spec"]["serveConfigV2"]) == config
    (workers,) = CLUSTERS["rayservice"]["workerGroupSpecs"]
    assert container(workers)["readinessProbe"]["httpGet"]["port"] == config["http_options"]["port"]
    assert workers["minReplicas"] > 0


def test_every_pod_of_the_ray_service_has_the_fast_front_end() -> None:
    for group in groups(CLUSTERS["rayservice"]):
        assert {one["name"]: one["value"] for one in container(group)["env"]} == FAST


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_asks_for_a_token_runs_as_no_root_and_tells_ray_what_its_pods_have(name: str) -> None:
    cluster = CLUSTERS[name]
    lock = (ROOT / "containers" / "base.lock").read_text(encoding="utf-8")
    assert f"\nray=={cluster['rayVersion']} " in lock
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"]
    for group in groups(cluster):
        pod, ray = group["template"]["spec"], container(group)
        assert pod["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Containerfile").read_text(encoding="utf-8")
        assert ray["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert ray["resources"]["limits"]["memory"] == ray["resources"]["requests"]["memory"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= ray.keys()
        cpus = ray["resources"]["requests"]["cpu"] if "groupName" in group else "0"  # the head does no work
        assert group["rayStartParams"]["num-cpus"] == cpus
        gpus = ray["resources"]["limits"].get("nvidia.com/gpu")
        assert group["rayStartParams"].get("num-gpus") == gpus


def test_workers_of_the_cluster_for_stages_come_from_zero_and_only_one_group_has_gpus() -> None:
    workers = CLUSTERS["raycluster"]["workerGroupSpecs"]
    assert [group["minReplicas"] for group in workers] == [0, 0]
    assert [group["groupName"] for group in workers if "num-gpus" in group["rayStartParams"]] == ["gpu"]


def test_the_job_finds_its_cluster_and_its_command_fits_what_the_workers_have() -> None:
    job, (cpu, gpu) = DOCUMENTS["rayjob"]["spec"], CLUSTERS["raycluster"]["workerGroupSpecs"]
    assert job["clusterSelector"] == {"ray.io/cluster": DOCUMENTS["raycluster"]["metadata"]["name"]}
    assert 0 < job["entrypointNumCpus"] < int(cpu["rayStartParams"]["num-cpus"])
    program, *arguments = shlex.split(job["entrypoint"])
    _, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert program == "aitax"
    given = bound.arguments
    assert given["use_gpu"] is True
    assert given["num_workers"] == given["num_classifiers"] == gpu["maxReplicas"]
    assert given["num_actors"] <= cpu["maxReplicas"] * int(cpu["rayStartParams"]["num-cpus"])


def test_the_guide_puts_a_shared_folder_in_the_place_of_object_storage(schemas: Registry[Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    guide = guide_claim()
    kubernetes_validate.validate(guide["claim"], "1.37", strict=True)
    assert guide["claim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    (volume,) = guide["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == guide["claim"]["metadata"]["name"]
    document = copy.deepcopy(DOCUMENTS["raycluster"])
    for group in groups(document["spec"]):
        group["template"]["spec"]["volumes"] = guide["volumes"]
        container(group)["volumeMounts"] = guide["volumeMounts"]
    assert problems(document, schemas) == []
