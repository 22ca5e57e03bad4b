"""Settings of the `train` stage, and of the stages that run the classifier.

Fields marked HOW say how the work is done, not what comes out: a change of theirs makes no result stale.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aitax_ray.settings import HOW, StageSettings

# Learning rates for a batch of 64 photographs, by optimizer and by whether the weights are pretrained. They grow in
# proportion to the batch. Training from scratch can take ten times the rate that pretrained weights survive.
LEARNING_RATES = {("adamw", True): 1e-4, ("adamw", False): 1e-3, ("sgd", True): 5e-3, ("sgd", False): 5e-2}


class TrainSettings(StageSettings):
    """Settings of `train`."""

    arch: str = "convnext_tiny"
    """Architecture: any of torchvision's classification models by name, e.g. resnet18 or efficientnet_v2_s."""
    pretrained: bool = True
    """Start from torchvision's ImageNet weights, fetched once from download.pytorch.org; else from scratch."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """Number of times that training goes through all training photographs."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Photographs per step, of all workers together."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; by default it follows from --optimizer, --pretrained and --batch-size."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimizer: AdamW, or SGD with Nesterov momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, or first beta of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay; biases and norms have none. The default suits AdamW; with --optimizer sgd set about 2e-5."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target probability that is spread over all species."""
    imbalanced: bool = False
    """Correct the loss for the number of training photographs per species, so that frequent ones are not favoured."""
    crop_size: Annotated[int, Field(ge=32)] | None = None
    """Side in px of the square that the network sees; by default that of torchvision's weights of the architecture."""
    seed: int = 0
    """Seed of all random choices: the photographs that `manifest --number` keeps, the split, the training run."""
    num_workers: Annotated[int, HOW, Field(ge=1)] = 2
    """Number of Ray Train workers. With GPUs, set it to their number; without, the workers share the CPUs."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Reserve one GPU for each worker; by default if the cluster has GPUs. `index` and `evaluate`: for each copy."""
    cpus_per_worker: Annotated[float, HOW, Field(gt=0)] = 1
    """CPUs that Ray reserves per worker."""
    max_failures: Annotated[int, HOW, Field(ge=0)] = 3
    """Number of times that training restarts by itself after a worker or a machine died."""

    @field_validator("arch")
    @classmethod
    def _arch_is_known(cls, arch: str) -> str:
        from aitax_ray.training.model import check_arch

        return check_arch(arch)

    def learning_rate(self) -> float:
        """The peak learning rate."""
        return self.lr or LEARNING_RATES[self.optimizer, self.pretrained] * self.batch_size / 64


class InferenceSettings(StageSettings):
    """Settings of every stage that runs the classifier."""

    inference_batch_size: Annotated[int, HOW, Field(ge=1)] = 64
    """Photographs per batch of the classifier."""
    num_classifiers: Annotated[int, HOW, Field(ge=1)] = 1
    """Number of copies of the classifier that work in parallel."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Reserve one GPU for each copy of the classifier; by default if the cluster has GPUs. `train`: for each worker."""
