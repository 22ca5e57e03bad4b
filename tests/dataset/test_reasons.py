import re
from pathlib import Path

from aitax_ray.dataset import reasons

DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"


def test_the_documentation_tells_every_reason() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.M))
    assert told == reasons.REASONS


def test_every_reason_has_a_meaning() -> None:
    names = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert names == set(reasons.REASONS)
