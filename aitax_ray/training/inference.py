"""Inference on Ray Data: runs the trained classifier on photographs of the split, for evaluate and index."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aitax_ray.cluster import Resources, check_room, connect, count_resources, use_gpus
from aitax_ray.training.settings import InferenceSettings
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from aitax_ray.training.feed import Labels
    from aitax_ray.training.predict import Predictor


def predictions(
    ws: Workspace,
    labels: "Labels",
    settings: InferenceSettings,
    predictor: type["Predictor"],
    decode: "Callable[[pa.Table], pa.Table] | None" = None,
    source: Workspace | None = None,
    **arguments: Any,
) -> "Dataset":
    """Predict the labelled photographs, which are stored in `ws` or in `source`: the rows that `predictor` returns.

    `predictor` reduces logits and embeddings to what the stage needs, so that little is sent between processes.
    `arguments` are passed to its constructor. `decode` makes its input from photographs; the default is
    feed.decode_for_evaluation.
    """
    connect()
    import ray

    from aitax_ray.training.feed import decode_for_evaluation, photographs
    from aitax_ray.training.predict import read_info

    use_gpu = use_gpus(settings.use_gpu)
    num = settings.num_classifiers or count_classifiers(len(labels), use_gpu, count_resources())
    check_room("the classifier", num, num if use_gpu else 0, "lower --num-classifiers, or take --no-use-gpu")
    decode = decode or partial(decode_for_evaluation, transform=read_info(ws).transform)
    return (
        photographs(source or ws, labels)
        .map_batches(decode, batch_format="pyarrow")
        .map_batches(
            predictor,
            fn_constructor_args=(ws.storage.root, use_gpu),
            fn_constructor_kwargs=arguments,
            batch_format="pyarrow",
            batch_size=settings.inference_batch_size,
            compute=ray.data.ActorPoolStrategy(size=num),
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
        )
    )


def count_classifiers(num_photographs: int, use_gpu: bool, have: Resources) -> int:
    """Decide how many classifiers work: one per GPU, or per CPU but one, and none that would get no photographs."""
    from aitax_ray.training.feed import ROWS_PER_BLOCK

    room = int(have.gpus if use_gpu else have.cpus - 1)
    return max(1, min(room, -(-num_photographs // ROWS_PER_BLOCK)))
