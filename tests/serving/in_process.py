"""The deployments as plain objects, which call each other in this process."""

from pathlib import Path
from typing import Any

from aitax_ray.serving.classifier import Classifier
from aitax_ray.serving.ingress import Ingress
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.serving.settings import ApplicationArgs


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


def ingress(engine: Path, **args: Any) -> tuple[Ingress, Handle, Handle]:
    arguments = ApplicationArgs(engine=str(engine), **args)
    handles = Handle(Classifier(arguments)), Handle(Retrieval(arguments))
    return Ingress(arguments, *handles), *handles  # type: ignore[arg-type]
