"""The decisions that turn scores into answers. Validation photographs make them, and they travel in engine.json."""

from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.acceptance import Acceptance
from aitax_ray.evaluation.conformal import Candidates
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.lookalikes import LookalikeGroup
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.evaluation.rejection import Rejection
from aitax_ray.evaluation.rollup import Rollup


class Limits(BaseModel):
    """The limits for answers to so many photographs of an individual."""

    model_config = ConfigDict(frozen=True)

    rejection: Rejection
    rollup: Rollup
    candidates: Candidates
    acceptance_part: float = 1.0
    """See `Acceptance.accepts`."""


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
    several: tuple[Limits, ...] = ()
    """For two photographs, and for three or more; the last one is for all larger numbers. The limits above are for one.

    Empty: too few validation occurrences have several photographs.
    """

    def limits(self, num_photographs: int) -> Limits | None:
        """The limits for so many photographs; None: see `verdicts.give_verdicts`."""
        if num_photographs == 1:
            return Limits(rejection=self.rejection, rollup=self.rollup, candidates=self.candidates)
        return self.several[min(num_photographs - 1, len(self.several)) - 1] if self.several else None
