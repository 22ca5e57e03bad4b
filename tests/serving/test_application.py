"""serving.application: how the deployments are configured."""

from pathlib import Path
from typing import Any

import yaml
from ray.serve.schema import ServeDeploySchema

from aitax_ray.serving.application import build
from aitax_ray.serving.classifier import Classifier
from aitax_ray.serving.ingress import CALLS, Ingress
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.serving.settings import ApplicationArgs

NAMES = {Ingress.__name__, Classifier.__name__, Retrieval.__name__}


def deployments(args: ApplicationArgs) -> dict[str, Any]:
    """The configuration of each deployment, by name. The engine need not be there."""
    ingress = build(args)._bound_deployment
    found = [ingress, *(each._bound_deployment for each in ingress.init_args[1:] if each is not None)]
    return {deployment.name: deployment._deployment_config for deployment in found}


def test_a_laptop_has_one_replica_of_each_deployment() -> None:
    found = deployments(ApplicationArgs(engine="/there/is/none", max_waiting=7))
    assert {name: config.num_replicas for name, config in found.items()} == dict.fromkeys(NAMES, 1)
    assert all(config.autoscaling_config is None for config in found.values())
    assert found["Ingress"].max_ongoing_requests > 10 * 7  # those that are refused reach it, too


def test_replicas_follow_the_load_between_the_given_numbers() -> None:
    numbers = {"min_ingress_replicas": 2, "max_ingress_replicas": 5, "max_classifier_replicas": 3}
    args = ApplicationArgs(engine="e", **numbers, min_retrieval_replicas=2, max_retrieval_replicas=2)
    found = deployments(args.model_copy(update={"target_ongoing_requests": 9.0}))
    for name, smallest, largest, target in (("Ingress", 2, 5, 9), ("Classifier", 1, 3, CALLS)):
        scaling = found[name].autoscaling_config
        assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (
            smallest,
            largest,
            target,
        )
    assert (found["Retrieval"].num_replicas, found["Retrieval"].autoscaling_config) == (2, None)


def test_configuration_for_serve_deploy_has_valid_settings_and_scales() -> None:
    content = yaml.safe_load((Path(__file__).parents[2] / "serve_config.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(content).applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    args = ApplicationArgs.model_validate(application.args)
    assert all(config.autoscaling_config for config in deployments(args).values())
    assert {deployment.name for deployment in application.deployments} <= NAMES
