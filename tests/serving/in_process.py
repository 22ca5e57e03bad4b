"""The deployments as plain objects, which call each other in this process."""

from pathlib import Path
from typing import Any

import numpy as np

from aitax_ray.engine.bundle import Engine
from aitax_ray.serving.classifier import Classifier, predict_batch
from aitax_ray.serving.ingress import Ingress
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions


class Handle:
    """Stands for a deployment's handle: calls the object in this process."""

    def __init__(self, deployment: Any) -> None:
        self._deployment = deployment
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._deployment, name)

        class Method:
            remote = staticmethod(lambda *given: self.calls.append(name) or method(*given))

        return Method


class Unbatched(Classifier):
    """The classifier without Ray Serve's gathering, which works in a replica only."""

    def __init__(self, args: ApplicationArgs) -> None:
        self._versions = Versions(args.engine, Engine.classifier)

    async def predict(self, place: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return predict_batch([(await self._versions.get(place), pixels)])[0]


def ingress(engine: Path, **args: Any) -> tuple[Ingress, Handle, Handle]:
    arguments = ApplicationArgs(engine=str(engine), **args)
    handles = Handle(Unbatched(arguments)), Handle(Retrieval(arguments))
    return Ingress(arguments, *handles), *handles  # type: ignore[arg-type]
