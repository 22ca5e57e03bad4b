"""The service on Ray Serve: an ingress for HTTP, a classifier that works in batches, a retrieval per part of the index.

Each deployment opens the engine when its replica starts: importing this module loads nothing, and each machine loads
only the parts that it uses. `serve_config.yaml` names `build`.
"""

from typing import Any, cast

from ray import serve
from ray.serve import Application

from aitax_ray.engine.bundle import open_engine
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.classifier import Classifier
from aitax_ray.serving.http import make_app
from aitax_ray.serving.ingress import Ingress
from aitax_ray.serving.keys import locate_keys
from aitax_ray.serving.ledger import Ledger
from aitax_ray.serving.queries import locate_queries
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.serving.settings import ApplicationArgs

LIGHT = 0.1  # CPUs of deployments that mostly wait
MAX_CALLS = 64  # at a replica of the classifier or the retrieval, from all replicas of the ingress
REFUSABLE = 20  # x max_waiting requests may be at an ingress
LIFE: dict[str, Any] = {
    # Ray's lines about each call cost time, and the access log says more.
    "logging_config": {"log_level": "WARNING", "enable_access_log": False},
    "health_check_period_s": 2.0,  # a replica that died is replaced after so long
    "graceful_shutdown_timeout_s": 60.0,  # a replica that is removed answers its requests first: they take up to 55 s
}


def build(args: ApplicationArgs) -> Application:
    """Connect the deployments to an application; `serve deploy` calls this with the args of its configuration."""
    located = {"keys": locate_keys(args.keys), "keep_queries": locate_queries(args.keep_queries)}
    args = args.model_copy(update=located)

    def deployment(name: str, num_cpus: float, max_ongoing_requests: int, target: float, num_gpus: float = 0) -> Any:
        smallest, largest = getattr(args, f"min_{name}_replicas"), getattr(args, f"max_{name}_replicas")
        number: dict[str, Any] = {"num_replicas": smallest}
        if largest > smallest:
            limits = {"min_replicas": smallest, "max_replicas": largest}
            number = {"autoscaling_config": limits | {"target_ongoing_requests": target} | _delays(args)}
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        return serve.deployment(ray_actor_options=options, max_ongoing_requests=max_ongoing_requests, **number, **LIFE)

    calls = MAX_CALLS, args.target_ongoing_calls
    classifier = deployment("classifier", args.classifier_cpus, *calls, args.classifier_gpus)(Classifier).bind(args)
    num_parts = args.retrieval_parts or len(open_engine(args.engine).shards)
    part_of = deployment("retrieval", LIGHT, *calls)(Retrieval)
    names = [Retrieval.__name__] if num_parts == 1 else [f"{Retrieval.__name__}-{n}" for n in range(num_parts)]
    retrieval = [part_of.options(name=name).bind(args, part, num_parts) for part, name in enumerate(names)]
    ledger = None
    if args.keys is not None:
        options = {"num_cpus": LIGHT}
        one = serve.deployment(num_replicas=1, ray_actor_options=options, max_ongoing_requests=1000, **LIFE)
        ledger = one(Ledger).bind(args)
    # Ray Serve makes the application in the replica, where `_this_backend` works.
    limits = args.max_waiting, args.cors_origins, args.allowed_hosts, args.log_clients
    http = serve.ingress(lambda: make_app(_this_backend, *limits, serve_adds_id=True))(Ingress)
    # The ingress itself refuses those that are too many, with JSON: they must reach it.
    ingress = deployment("ingress", LIGHT, REFUSABLE * args.max_waiting, args.target_ongoing_requests)(http)
    application: Application = ingress.bind(args, classifier, retrieval, ledger)
    return application


def _delays(args: ApplicationArgs) -> dict[str, float]:
    # The load is the mean of this time, measured at least four times in it.
    period = min(30.0, args.upscale_delay_s)
    return {
        "upscale_delay_s": args.upscale_delay_s,
        "downscale_delay_s": args.downscale_delay_s,
        "look_back_period_s": period,
        "metrics_interval_s": period / 4,
    }


def _this_backend() -> Backend:
    ingress: Any = serve.get_replica_context().servable_object
    return cast(Ingress, ingress).backend
