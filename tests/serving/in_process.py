"""The deployments as plain objects, which call each other in this process."""

import asyncio
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

    def options(self, **_: object) -> "Handle":
        return self

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._deployment, name)

        class Method:
            @staticmethod
            def remote(*given: Any) -> asyncio.Task[Any]:
                self.calls.append(name)
                return asyncio.ensure_future(method(*given))

        return Method


def ingress(engine: Path, **args: Any) -> tuple[Ingress, Handle, Handle]:
    arguments = ApplicationArgs(engine=str(engine), **args)
    num_parts = arguments.retrieval_parts or 1
    classifier = Handle(Classifier(arguments))
    retrieval = [Handle(Retrieval(arguments, part, num_parts)) for part in range(num_parts)]
    return Ingress(arguments, classifier, retrieval), classifier, retrieval[0]  # type: ignore[arg-type]
