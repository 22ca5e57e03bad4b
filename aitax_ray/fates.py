"""The fate of a photograph: the last attempt in the ledger that decided something (schemas.LEDGER)."""

from collections.abc import Sequence

RETRIED = "retried"  # status of an attempt that another one of the same run followed
# Of the attempts of one run, one that stored the photograph counts more than one that failed. The file's name comes
# last, so that each query chooses the same of two attempts that are equal.
_LATEST = "(run, status <> 'failed', fetched_at, shard)"


def fates_sql(columns: Sequence[str], attempts: str = "ledger") -> str:
    """The query of DuckDB for image_id and some columns of the last attempt for each photograph.

    `attempts` is a table, or a query in brackets, with the columns of schemas.LEDGER.
    """
    last = ", ".join(f"'{name}': {name}" for name in columns)
    return (
        f"SELECT image_id, unnest(last) FROM (SELECT image_id, arg_max({{{last}}}, {_LATEST}) AS last "
        f"FROM {attempts} WHERE status <> '{RETRIED}' GROUP BY image_id)"
    )
