import re
from pathlib import Path

from aitax_ray.images import answers, content, decode, decoders, shards, sizes
from aitax_ray.images.reasons import REASONS

DOCS = Path(__file__).parents[2] / "docs" / "download.md"


def test_the_documentation_tells_every_reason_and_whether_it_may_pass() -> None:
    table = DOCS.read_text(encoding="utf-8").split("| reason | | again in the next run |")[1]
    told = {
        name: (meaning, again) for name, meaning, again in re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", table, re.M)
    }
    may_pass = answers.MAY_PASS | {shards.FILE_MISSING}
    assert told == {n: (meaning, "yes" if n in may_pass else "") for n, meaning in REASONS.items()}


def test_no_reason_has_two_meanings() -> None:
    parts = [module.REASONS for module in (answers, content, decode, decoders, shards, sizes)]
    assert sum(map(len, parts)) == len(REASONS)
