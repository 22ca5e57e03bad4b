"""What is wrong with a Kubernetes manifest, by the schemas of Kubernetes and of KubeRay. Unknown keys are wrong.

python -m tests.kuberay CRD...     checks kubernetes/ by the CustomResourceDefinitions that KubeRay publishes, in the
                                   place of kuberay.json: its files helm-chart/kuberay-operator/crds/*.yaml
"""

import json
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "kubernetes").glob("*.yaml"))
KUBERNETES = "kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"


def registry() -> Registry[Any]:
    """The schemas of Kubernetes, and kuberay.json."""
    texts = (files("kubernetes_validate") / KUBERNETES, Path(__file__).with_suffix(".json"))
    found: Registry[Any] = Registry()
    return found.with_resources(
        (content["$id"], Resource.from_contents(content))
        for content in (json.loads(text.read_text(encoding="utf-8")) for text in texts)
    )


def problems(document: Mapping[str, Any], schemas: Registry[Any], crds: Mapping[str, Any] | None = None) -> list[str]:
    """Say what is wrong with a manifest of KubeRay. `crds`: kind to schema; without them kuberay.json decides."""
    kind = document["kind"]
    if crds and kind not in crds:
        return [f"no definition of {kind} is given"]
    schema = crds[kind] if crds else {"$ref": f"https://aitax.example/kuberay.json#/$defs/{kind}"}
    errors = Draft202012Validator(schema, registry=schemas).iter_errors(document)
    return [f"{error.json_path}: {(best_match(error.context or [error])).message}" for error in errors]


def read_crds(paths: list[Path]) -> dict[str, Any]:
    """Read CustomResourceDefinitions: the schema of each kind, which allows no unknown keys."""
    found = {}
    for path in paths:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        (version,) = (each for each in spec["versions"] if each["name"] == "v1")
        found[spec["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Any) -> Any:
    """Forbid keys that a schema does not name, as the server does when it validates strictly."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def main() -> None:
    """Check the manifests by the definitions that the command names. Exit status 1: one is wrong."""
    crds, schemas, is_wrong = read_crds([Path(name) for name in sys.argv[1:]]), registry(), False
    for path in MANIFESTS:
        found = problems(yaml.safe_load(path.read_text(encoding="utf-8")), schemas, crds)
        is_wrong = is_wrong or bool(found)
        sys.stdout.write("\n".join([f"{path.name}: {'wrong' if found else 'right'}", *found]) + "\n")
    sys.exit(is_wrong)


if __name__ == "__main__":
    main()
