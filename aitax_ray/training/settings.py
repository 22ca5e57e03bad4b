"""Settings of the `train` stage."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aitax_ray.settings import HOW, StageSettings

# Learning rates that suit a step of 64 photographs, by optimizer and by whether the weights are pretrained; they grow
# in proportion to the batch. From scratch the step may be ten times as large as where there is something to lose.
LEARNING_RATES = {("adamw", True): 1e-4, ("adamw", False): 1e-3, ("sgd", True): 5e-3, ("sgd", False): 5e-2}


class TrainSettings(StageSettings):
    """Settings of `train`."""

    arch: str = "convnext_tiny"
    """Architecture: any of torchvision's classification models by name, e.g. resnet18 or efficientnet_v2_s."""
    pretrained: bool = True
    """Start from torchvision's ImageNet weights, fetched once from download.pytorch.org; else from scratch."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """How often every training photograph is seen."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Photographs per step, all workers together."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; by default it follows from optimizer, --pretrained and --batch-size."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, first beta of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay; biases and norms have none. For SGD use something like 2e-5."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over all species."""
    imbalanced: bool = False
    """Favour no species for being frequent: the loss adjusts for how often each occurs in training."""
    crop_size: Annotated[int, Field(ge=32)] | None = None
    """Side of what the network sees, px; by default what the architecture's weights were made for."""
    seed: int = 0
    """Seed of all that is drawn: which photographs --number keeps, the split, the training run."""
    num_workers: Annotated[int, HOW, Field(ge=1)] = 2
    """Ray Train workers: one per GPU, or parts of a CPU machine."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Give each worker (and each copy of the classifier) a GPU; by default when the cluster has any."""
    cpus_per_worker: Annotated[float, HOW, Field(gt=0)] = 1
    """CPUs that Ray keeps for each worker."""
    max_failures: Annotated[int, HOW, Field(ge=0)] = 3
    """How often training goes on by itself after a worker or a machine died."""

    @field_validator("arch")
    @classmethod
    def _arch_is_known(cls, arch: str) -> str:
        from aitax_ray.training.model import check_arch

        return check_arch(arch)

    def learning_rate(self) -> float:
        """The peak learning rate."""
        return self.lr or LEARNING_RATES[self.optimizer, self.pretrained] * self.batch_size / 64


class InferenceSettings(StageSettings):
    """What every stage that runs the classifier knows."""

    inference_batch_size: Annotated[int, HOW, Field(ge=1)] = 64
    """Photographs that the classifier takes at once."""
    num_classifiers: Annotated[int, HOW, Field(ge=1)] = 1
    """Copies of the classifier that work side by side."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Give each copy (and each worker in training) a GPU; by default when the cluster has any."""
