"""The decisions that turn scores into answers. Validation photographs make them, and they travel in engine.json."""

from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.acceptance import Acceptance
from aitax_ray.evaluation.conformal import Candidates
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.lookalikes import LookalikeGroup
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.evaluation.rejection import Rejection
from aitax_ray.evaluation.rollup import Rollup


class Decisions(BaseModel):
    """All that was decided on validation photographs."""

    model_config = ConfigDict(frozen=True)

    fusion: Fusion = Fusion()
    """How several photographs are joined, and the temperatures."""
    vote: Vote = Vote()
    """How much the most similar photographs count."""
    rejection: Rejection = Rejection()
    """Which answers are probably for a species that the engine does not know."""
    rollup: Rollup = Rollup()
    """When an answer names the genus or the family instead of the species."""
    candidates: Candidates = Candidates()
    """The set of species that holds the right one with the promised probability."""
    balanced_candidates: Candidates = Candidates()
    """The same with the promise for the mean over species: rare ones are left out no more often than common ones."""
    acceptance: Acceptance = Acceptance()
    """The score from which on an answer can be accepted without a look, for each species."""
    groups: tuple[LookalikeGroup, ...] = ()
    """Species that validation photographs cannot separate."""
