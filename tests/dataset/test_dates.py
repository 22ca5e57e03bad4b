import polars as pl
import pytest

from aitax_ray.dataset.dates import extract_day


def day_of(event_date: str | None) -> str | None:
    frame = pl.DataFrame({"event_date": [event_date]}, schema={"event_date": pl.String})
    day: str | None = frame.select(day=extract_day(pl.col("event_date")))["day"][0]
    return day


@pytest.mark.parametrize(
    "event_date",
    [
        "2023-05-01",
        " 2023-05-01 ",
        "2023-05-01T12:00:00Z",
        "2023-05-01 12:00",
        "2023-05-01/2023-05-01",
        "2023-05-01T10:00/2023-05-01T12:00",
        "2023-05-01T10:00:00.5+02:00/2023-05-01T12:00:00.5+02:00",
        "2023-05-01T00:00 / 2023-05-01T23:59",
        "2023-05-01T10:00/12:00",
        "2023-05-01T10:00/T12:00:30Z",
        "2023-05-01T10/12",
        "2023-05-01T1000/1200",
        "2023-05-01/01",
        "2023-05-01/05-01",
        "2023-05-01/P1D",
        "2023-05-01 - 2023-05-01",
        "2023-05-01T10:00 – 2023-05-01T12:00",
        "20230501",
        "20230501/20230501",
        "20230501T100000Z",
    ],
)
def test_what_is_within_one_day_is_that_day(event_date: str) -> None:
    assert day_of(event_date) == "2023-05-01"


@pytest.mark.parametrize(
    "event_date",
    [
        None,
        "",
        "2023",
        "2023-05",
        "2023-05-01/2023-05-02",
        "2023-05-01T10:00/2023-05-02T01:00",
        "2023-05-01/02",
        "2023-05-01/05-02",
        "2023-05-01/06",
        "2023-05-01/2023",
        "2023-05-01/2023-05",
        "2023-05-01T10:00/PT20H",
        "2023-05-01/",
        "/2023-05-01",
        "1 May 2023",
        "2023-05-01 - 2023-05-03",
        "2023-05-01 to 2023-05-02",
        "2023-05-01T10:00 – 2023-05-02T12:00",
        "20230501/20230502",
    ],
)
def test_what_is_longer_or_not_known_is_no_day(event_date: str | None) -> None:
    assert day_of(event_date) is None
