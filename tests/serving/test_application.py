"""serving.application: how the deployments are configured."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from aitax_ray.serving.application import build
from aitax_ray.serving.classifier import Classifier
from aitax_ray.serving.guard import TIMEOUT_S
from aitax_ray.serving.ingress import Ingress
from aitax_ray.serving.keys import add_key
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.serving.settings import CHANGEABLE, ApplicationArgs, change
from tests.engines import divide_index, write_small_engine

NAMES = {Ingress.__name__, Classifier.__name__, Retrieval.__name__}


def deployments(args: ApplicationArgs) -> dict[str, Any]:
    """The configuration of each deployment, by name. With a number of parts the engine need not be there."""
    ingress = build(args)._bound_deployment
    _, classifier, retrieval, ledger = ingress.init_args
    found = [ingress, *(each._bound_deployment for each in (classifier, *retrieval, ledger) if each is not None)]
    return {deployment.name: deployment._deployment_config for deployment in found}


def test_a_laptop_has_one_replica_of_each_deployment() -> None:
    found = deployments(ApplicationArgs(engine="/there/is/none", retrieval_parts=1, max_waiting=7))
    assert {name: config.num_replicas for name, config in found.items()} == dict.fromkeys(NAMES, 1)
    assert all(config.autoscaling_config is None for config in found.values())
    assert found["Ingress"].max_ongoing_requests > 10 * 7  # those that are refused reach it, too


def test_replicas_follow_the_load_between_the_given_numbers() -> None:
    numbers = {"min_ingress_replicas": 2, "max_ingress_replicas": 5, "max_classifier_replicas": 3}
    numbers |= {"min_retrieval_replicas": 2, "max_retrieval_replicas": 2, "retrieval_parts": 1}
    args = ApplicationArgs.model_validate({"engine": "e", **numbers, "upscale_delay_s": 4, "downscale_delay_s": 70})
    found = deployments(args.model_copy(update={"target_ongoing_requests": 9.0, "target_ongoing_calls": 1.5}))
    for name, *expected in (("Ingress", 2, 5, 9), ("Classifier", 1, 3, 1.5)):
        scaling = found[name].autoscaling_config
        assert [scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests] == expected
        assert (scaling.upscale_delay_s, scaling.downscale_delay_s, scaling.look_back_period_s) == (4, 70, 4)
    assert (found["Retrieval"].num_replicas, found["Retrieval"].autoscaling_config) == (2, None)


def test_each_shard_of_the_index_has_its_deployment_unless_told_otherwise(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "engine" / "colours-1")
    assert deployments(ApplicationArgs(engine=str(engine))).keys() == NAMES
    divide_index(engine, 2, 5)
    others = NAMES - {"Retrieval"}
    assert deployments(ApplicationArgs(engine=str(engine))).keys() == others | {f"Retrieval-{n}" for n in range(3)}
    given = ApplicationArgs(engine=str(engine), retrieval_parts=2, max_retrieval_replicas=4)
    found = deployments(given)
    assert found.keys() == others | {"Retrieval-0", "Retrieval-1"}
    assert found["Retrieval-1"].autoscaling_config.max_replicas == 4


def test_only_the_classifier_takes_gpus_if_classifier_gpus_is_set() -> None:
    for given, expected in (({}, 0), ({"classifier_gpus": 0.5}, 0.5)):
        ingress = build(ApplicationArgs.model_validate({"engine": "e", "retrieval_parts": 1} | given))._bound_deployment
        classifier, [retrieval] = ingress.init_args[1], ingress.init_args[2]
        found = [
            each.ray_actor_options["num_gpus"]
            for each in (ingress, *(c._bound_deployment for c in (classifier, retrieval)))
        ]
        assert found == [0, expected, 0]


def test_replicas_that_are_removed_answer_first_and_dead_ones_are_soon_replaced(tmp_path: Path) -> None:
    keys = tmp_path / "keys.jsonl"
    add_key(keys, "ann")
    found = deployments(ApplicationArgs(engine="e", retrieval_parts=2, keys=str(keys)))
    assert len(found) == 5
    for config in found.values():
        assert config.graceful_shutdown_timeout_s > TIMEOUT_S
        assert config.health_check_period_s <= 2


@pytest.mark.parametrize(("name", "prefixes"), [("config", ["/"]), ("two_engines", ["/frogs", "/moths"])])
def test_configurations_for_serve_deploy_have_valid_settings_and_scale(name: str, prefixes: list[str]) -> None:
    content = yaml.safe_load((Path(__file__).parents[2] / f"serve_{name}.yaml").read_text(encoding="utf-8"))
    config = ServeDeploySchema.model_validate(content)
    assert config.proxy_location == "EveryNode"
    assert [application.route_prefix for application in config.applications] == prefixes
    for application in config.applications:
        assert application.import_path == f"{build.__module__}:{build.__name__}"
        args = ApplicationArgs.model_validate({**application.args, "retrieval_parts": 1})
        scaling = {name for name, found in deployments(args).items() if found.autoscaling_config}
        assert {"Ingress", "Classifier"} <= scaling
        for deployment in application.deployments:
            assert deployment.name == Ingress.__name__
            assert change(args, deployment.user_config) == args  # it shows the defaults
            assert set(deployment.user_config) == set(CHANGEABLE)
