"""Reads the dates of events in Darwin Core (dwc:eventDate): ISO 8601, a point in time or an interval."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_DAY = r"\d{4}-\d\d-\d\d"
_SEPARATOR = r"\s+(?:-|to)\s+|\s*[–—;|]\s*|\s*--\s*"  # what publishers write in place of "/"
_BASIC = r"(^\s*|/\s*)(\d{4})(\d\d)(\d\d)(T|\b)"  # ISO 8601's basic format: "20230501"


def extract_day(event_date: "pl.Expr") -> "pl.Expr":
    """Give the day of an event as YYYY-MM-DD, null where the event is not known to be within one day.

    GBIF writes many dates as intervals since 2023. The end of an interval may leave out the parts that are equal to
    those of the start (ISO 8601-1, 5.5.2.4): "2023-05-01T10:00/12:00", "2023-05-01/01". Instead of an end there may be
    a duration. Of these only "P1D" (one day) after a start without a time is understood: "2023-05-01/P1D".
    Publishers write "2023-05-01 - 2023-05-02" and "20230501", too.
    """
    import polars as pl

    event_date = event_date.str.replace(_SEPARATOR, "/").str.replace_all(_BASIC, "$1$2-$3-$4$5")
    begin = event_date.str.extract(rf"^\s*({_DAY})(?:[T ][^/]*)?\s*(?:/.*)?$")
    has_time = event_date.str.contains(rf"^\s*{_DAY}[T ]")
    end = event_date.str.extract(r"/\s*(.*?)\s*$")
    is_clock = end.str.contains(r"^T?\d\d:?\d\d(?:\D.*|\d\d.*)?$") & ~end.str.contains(r"^\d\d-\d\d(?:\D|$)|^\d{4}-")
    is_same_day = pl.any_horizontal(
        end.is_null(),
        end.str.extract(rf"^({_DAY})(?:[T ].*)?$") == begin,
        end.str.extract(r"^(\d\d-\d\d)(?:[T ].*)?$") == begin.str.slice(5),
        ~has_time & (end.str.extract(r"^(\d\d)(?:[T ].*)?$") == begin.str.slice(8)),
        ~has_time & (end == "P1D"),
        has_time & (is_clock | end.str.contains(r"^T?\d\d(?:Z|[+-]\d\d:?\d\d)?$")),
    )
    return pl.when(is_same_day).then(begin)
