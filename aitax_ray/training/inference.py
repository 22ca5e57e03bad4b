"""Inference on Ray Data: runs the trained classifier on photographs of the split, for evaluate and index."""

from functools import partial
from typing import TYPE_CHECKING, Any

from aitax_ray.cluster import check_room, connect, use_gpus
from aitax_ray.training.settings import InferenceSettings
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from ray.data import Dataset

    from aitax_ray.training.feed import Labels
    from aitax_ray.training.predict import Predictor


def predictions(
    ws: Workspace, labels: "Labels", settings: InferenceSettings, predictor: type["Predictor"], **arguments: Any
) -> "Dataset":
    """Predict the labelled photographs: the rows that `predictor` returns.

    `predictor` reduces logits and embeddings to what the stage needs, so that little is sent between processes.
    `arguments` are passed to its constructor.
    """
    connect()
    import ray

    from aitax_ray.training.feed import decode_for_evaluation, photographs
    from aitax_ray.training.predict import read_info

    use_gpu = use_gpus(settings.use_gpu)
    num = settings.num_classifiers
    check_room("the classifier", num, num if use_gpu else 0, "lower --num-classifiers, or take --no-use-gpu")
    return (
        photographs(ws, labels)
        .map_batches(partial(decode_for_evaluation, transform=read_info(ws).transform), batch_format="pyarrow")
        .map_batches(
            predictor,
            fn_constructor_args=(ws.storage.root, use_gpu),
            fn_constructor_kwargs=arguments,
            batch_format="pyarrow",
            batch_size=settings.inference_batch_size,
            compute=ray.data.ActorPoolStrategy(size=settings.num_classifiers),
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
        )
    )
