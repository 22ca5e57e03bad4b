from aitax_ray.evaluation.decisions import Decisions
from tests.evaluation.worlds import make_world


def test_decisions_survive_json() -> None:
    decided, _, _ = make_world(num_unknown=60)
    assert Decisions.model_validate_json(decided.decisions.model_dump_json()) == decided.decisions
    assert Decisions.model_validate_json("{}") == Decisions()
