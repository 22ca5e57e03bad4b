"""serving.record: what is written into the record of the right request."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.serving import metrics
from aitax_ray.serving.identifier import Identifier
from aitax_ray.serving.record import (
    ACCEPTED,
    REJECTED,
    UNSURE,
    Record,
    add_part,
    choose_request_id,
    current,
    part,
    record_answer,
    recording,
)
from tests.engines import COLOURS, write_small_engine
from tests.serving.recorded import recorded


def test_parts_add_up_and_each_request_has_its_own() -> None:
    async def answer(name: str) -> Record:
        record = Record(request_id=name)
        with recording(record):
            with part("read"):
                await asyncio.sleep(0)
            await asyncio.gather(child(1.0), child(2.0))
        return record

    async def child(seconds: float) -> None:
        add_part("decode", seconds)

    async def both() -> list[Record]:
        return list(await asyncio.gather(answer("a"), answer("b")))

    with recorded() as kept:
        records = asyncio.run(both())
    for record in records:
        assert record.seconds["decode"] == 3.0
        assert 0 <= record.seconds["read"] < 60
    assert sorted(kept.labels(metrics.PART_SECONDS)) == [("decode",)] * 4 + [("read",)] * 2
    assert current().seconds == {}


def test_a_part_that_fails_is_measured_too() -> None:
    record = Record()
    with pytest.raises(ValueError, match="bad"), recording(record), part("decode"):
        raise ValueError("bad")
    assert set(record.seconds) == {"decode"}


def test_an_answer_is_accepted_unsure_or_rejected_as_the_engine_says(tmp_path: Path) -> None:
    identifier = Identifier(open_engine(str(write_small_engine(tmp_path / "colours-1"))))
    found = identifier.identify([Image.new("RGB", (40, 30), COLOURS["11"])])
    for is_known, is_accepted, expected in (
        (True, True, ACCEPTED),
        (True, False, UNSURE),
        (False, True, REJECTED),
        (False, False, REJECTED),
    ):
        judgement = replace(found.judgement, is_known=is_known, is_accepted=is_accepted)
        record = Record()
        with recorded() as kept, recording(record):
            record_answer(replace(found, judgement=judgement))
        assert (record.judgement, record.engine) == (expected, "colours-1")
        assert kept.of(metrics.TOP_SCORE) == [(found.candidates[0].score, {})]
        assert kept.of(metrics.NEAREST_SIMILARITY) == [(found.judgement.similarity, {})]


@pytest.mark.parametrize("given", ["a", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "web:1/2+3=", "x" * 100])
def test_a_harmless_id_of_the_client_is_kept(given: str) -> None:
    assert choose_request_id(given) == given


@pytest.mark.parametrize("given", ["", "x" * 101, "a b", 'a"b', "a\nb", "<script>", "é", "{}", "a,b"])
def test_any_other_id_is_replaced_by_a_new_one(given: str) -> None:
    first, second = choose_request_id(given), choose_request_id(given)
    assert len({first, second, given}) == 3
    assert choose_request_id(first) == first
