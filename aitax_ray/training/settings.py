"""Settings of the `train` stage, and of the stages that run the classifier.

Fields marked HOW do not change the result, so changing one does not make a stage stale. Fields marked BY_RECIPE take
their default from a recipe: a file in recipes/, see recipes.py.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, field_validator, model_validator

from aitax_ray.errors import SettingsError
from aitax_ray.settings import BY_RECIPE, HOW, StageSettings
from aitax_ray.training.recipes import RecipeName, read_recipe

# Learning rates for a batch of 64 photographs, by optimizer and by whether the weights are pretrained. They are
# proportional to the batch size. Training from scratch works with ten times the rate: that would destroy pretrained
# weights.
LEARNING_RATES = {("adamw", True): 1e-4, ("adamw", False): 1e-3, ("sgd", True): 5e-3, ("sgd", False): 5e-2}

Share = Annotated[float, Field(ge=0, le=1)]


CPU_WORKERS = 2


class TrainSettings(StageSettings):
    """Settings of `train`."""

    recipe: RecipeName | None = None
    """Values for all other settings; --show prints them. Default: fine-tune with a GPU, linear-probe without."""
    arch: Annotated[str, BY_RECIPE]
    """Backbone: a name of torchvision, such as resnet18, or timm/NAME, such as timm/convnext_tiny."""
    pretrained: Annotated[bool, BY_RECIPE]
    """Start from published weights. They come from an installed package, or are fetched once and cached."""
    weights: str | None = None
    """Start from these weights: a file (.safetensors, .pth, .pt), or ROOT/model of an earlier training."""
    crop_size: Annotated[int, Field(ge=32)] | None = None
    """Side in px of the square that the network sees. Default: the size that its weights were trained with."""
    head: Annotated[Literal["linear", "prototype"], BY_RECIPE]
    """Classifier on the embedding: linear, or prototype (cosine to the mean) for 1 to 5 photographs per species."""
    head_first: Annotated[bool, BY_RECIPE]
    """Train the head first, on embeddings that the backbone computes once."""
    train_backbone: Annotated[bool, BY_RECIPE]
    """Train all layers. Otherwise the backbone stays frozen, and only the head is trained."""
    views: Annotated[int, BY_RECIPE, Field(ge=1, le=16)]
    """Views per training photograph that the head learns from: first the centre, then random crops."""
    epochs: Annotated[int, BY_RECIPE, Field(ge=1)]
    """Number of passes through the training photographs in which all layers are trained."""
    final_epochs: Annotated[int, BY_RECIPE, Field(ge=0)]
    """Number of last epochs with weak augmentation. Photographs then look as they do in the service."""
    batch_size: Annotated[int, BY_RECIPE, Field(ge=1)]
    """Photographs per step of training: the sum over all workers."""
    accumulate: Annotated[int, BY_RECIPE, Field(ge=1)]
    """Compute each step in this many parts, to save memory. A batch normalization sees one part at a time."""
    optimizer: Annotated[Literal["adamw", "sgd"], BY_RECIPE]
    """Optimizer: AdamW, or SGD with Nesterov momentum."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate. Default: computed from --optimizer, --pretrained and --batch-size."""
    momentum: Annotated[float, BY_RECIPE, Field(ge=0, lt=1)]
    """Momentum of SGD, or first beta of AdamW."""
    weight_decay: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Weight decay; biases and norms have none."""
    layer_decay: Annotated[float, BY_RECIPE, Field(gt=0, le=1)]
    """Learning rate of a block of layers, divided by that of the block above it. With 1 all have the same."""
    clip_norm: Annotated[float, BY_RECIPE, Field(gt=0)]
    """Largest norm of the gradient. A larger gradient is scaled down to it."""
    freeze_norm: Annotated[bool, BY_RECIPE]
    """Keep the statistics of batch normalization as they are in the weights that training starts from."""
    ema: Annotated[float, BY_RECIPE, Field(ge=0, lt=1)]
    """Decay of the moving average of the weights. The average is validated and published. 0: no average."""
    schedule: Annotated[Literal["cosine", "plateau"], BY_RECIPE]
    """Learning rate: cosine after a warm-up, or plateau: lower by --factor if the validation loss does not fall."""
    warmup: Annotated[Share, BY_RECIPE]
    """Share of the run in which --schedule cosine raises the learning rate."""
    factor: Annotated[float, BY_RECIPE, Field(gt=0, lt=1)]
    """Factor by which --schedule plateau multiplies the learning rate."""
    patience: Annotated[int, BY_RECIPE, Field(ge=0)]
    """Epochs without improvement that --schedule plateau allows before it lowers the learning rate."""
    threshold: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Smallest change of the loss that --schedule plateau counts as an improvement."""
    threshold_mode: Annotated[Literal["rel", "abs"], BY_RECIPE]
    """Whether --threshold is a share of the best loss, or a difference from it."""
    cooldown: Annotated[int, BY_RECIPE, Field(ge=0)]
    """Epochs that --schedule plateau waits after it has lowered the learning rate."""
    min_lr: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Lowest learning rate of --schedule plateau."""
    eps: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Smallest change of the learning rate that --schedule plateau makes."""
    augment: Annotated[Literal["trivial", "light", "none"], BY_RECIPE]
    """Changes besides crop and mirror: TrivialAugment, a little brightness and saturation (light), or none."""
    min_scale: Annotated[float, BY_RECIPE, Field(gt=0, le=1)]
    """Smallest share of a photograph's area that a random crop keeps."""
    vertical_flip: Annotated[bool, BY_RECIPE]
    """Also turn half of the photographs upside down, for subjects seen from above, such as moths on a sheet."""
    random_erasing: Annotated[Share, BY_RECIPE]
    """Share of the photographs in which a random box is erased."""
    mixup: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Alpha of mixup, which mixes pairs of photographs and their species. 0: no mixup."""
    cutmix: Annotated[float, BY_RECIPE, Field(ge=0)]
    """Alpha of CutMix, which pastes a part of one photograph into another. 0: no CutMix."""
    label_smoothing: Annotated[float, BY_RECIPE, Field(ge=0, lt=1)]
    """Share of the target probability that is spread over all species."""
    imbalanced: Annotated[bool, BY_RECIPE]
    """Weigh the loss of a species with n training photographs by 1 / log2(1 + n)."""
    long_tail: Annotated[Literal["none", "adjust", "loss", "balanced-softmax", "crt"], BY_RECIPE]
    """For rare species: adjust logits after training, or in the loss (loss, balanced-softmax); crt: new head."""
    select_by: Annotated[Literal["top1", "macro_top1", "loss"], BY_RECIPE]
    """Figure on the validation photographs by which the best epoch is chosen."""
    stop_after: Annotated[int, BY_RECIPE, Field(ge=0)]
    """Stop after this many epochs without a better one; 0 never stops early."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop after the epoch in which training has taken this many minutes."""
    seed: int = 0
    """Seed of all random choices: the photographs that `manifest --number` keeps, the split, the training run."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], HOW] = "auto"
    """Number format of the computation; auto measures at the start which one is faster."""
    compile: Annotated[Literal["auto", "yes", "no"], HOW] = "auto"
    """Compile the network with torch.compile; auto measures at the start whether that is faster."""
    track: Annotated[tuple[Literal["mlflow", "wandb"], ...], HOW] = ()
    """Also log each epoch to MLflow or Weights & Biases. Set the server with their own environment variables."""
    num_workers: Annotated[int | None, HOW, Field(ge=1)] = None
    """Number of Ray Train workers. Default: one per GPU. Without GPUs 2, which share the CPUs."""
    min_workers: Annotated[int | None, HOW, Field(ge=1)] = None
    """Smallest number of workers to continue with when nodes are lost. Default: --num-workers."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Reserve one GPU per worker (`index`, `evaluate`: per classifier). Default: yes if the cluster has GPUs."""
    cpus_per_worker: Annotated[float, HOW, Field(gt=0)] = 1
    """CPUs that Ray reserves per worker."""
    max_failures: Annotated[int, HOW, Field(ge=0)] = 3
    """Number of times that training restarts by itself after a worker or a machine has failed."""

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill the fields that were not given from the recipe."""
        if not isinstance(given, Mapping):
            return handler(given)
        name = given.get("recipe")
        # Without a recipe, base.yaml fills the fields. `with_recipe` replaces these values later.
        recipe = read_recipe(name) if name is None or name in get_args(RecipeName) else {}
        settings = handler({**recipe, **given})
        settings._given = dict(given)
        return settings

    @model_validator(mode="after")
    def _workers_fit(self) -> Self:
        if self.min_workers and self.num_workers and self.min_workers > self.num_workers:
            raise ValueError("--min-workers is more than --num-workers")
        return self

    @field_validator("arch")
    @classmethod
    def _arch_is_known(cls, arch: str) -> str:
        from aitax_ray.training.backbones import check_arch

        return check_arch(arch)

    def with_recipe(self, recipe: RecipeName) -> Self:
        """Give these settings with another recipe. What the user has set stays."""
        return type(self).model_validate({**self._given, "recipe": recipe})

    def shown(self) -> dict[str, Any]:
        """Give the settings in the form of aitax.yaml.

        Raises SettingsError without a recipe, because the recipe then depends on the machine.
        """
        if self.recipe is None:
            raise SettingsError(f"--show needs --recipe NAME, one of {', '.join(get_args(RecipeName))}")
        return super().shown()

    def count_workers(self, num_gpus: float, num_photographs: int) -> int:
        """Decide how many workers train: on this many GPUs, or, when there are none, on CPUs."""
        return self.num_workers or max(min(int(num_gpus) or CPU_WORKERS, num_photographs), self.min_workers or 1)

    def learning_rate(self) -> float:
        """The peak learning rate."""
        starts_trained = self.pretrained or self.weights is not None
        return self.lr or LEARNING_RATES[self.optimizer, starts_trained] * self.batch_size / 64


class InferenceSettings(StageSettings):
    """Settings of every stage that runs the classifier."""

    inference_batch_size: Annotated[int, HOW, Field(ge=1)] = 64
    """Photographs per batch of the classifier."""
    num_classifiers: Annotated[int | None, HOW, Field(ge=1)] = None
    """Number of copies of the classifier that work at the same time. Default: one per GPU, or per CPU but one."""
    use_gpu: Annotated[bool | None, HOW] = None
    """Reserve one GPU per copy of the classifier (`train`: per worker). Default: yes if the cluster has GPUs."""
