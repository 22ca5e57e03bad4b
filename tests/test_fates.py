import duckdb

from aitax_ray.fates import fates_sql

ATTEMPTS = """(VALUES
    ('a', 'r1', 'failed', 'timeout', 1), ('a', 'r2', 'ok', '', 2),
    ('b', 'r1', 'ok', '', 1), ('b', 'r1', 'failed', 'timeout', 2),
    ('c', 'r2', 'failed', 'gone', 3), ('c', 'r1', 'ok', '', 4), ('c', 'r3', 'retried', 'timeout', 5),
    ('d', 'r1', 'retried', 'timeout', 1)) AS attempt(image_id, run, status, reason, fetched_at)"""


def test_the_last_run_decides_and_within_a_run_success_does() -> None:
    rows = duckdb.execute(fates_sql(["run", "status", "reason"], ATTEMPTS) + " ORDER BY image_id").fetchall()
    assert rows == [("a", "r2", "ok", ""), ("b", "r1", "ok", ""), ("c", "r2", "failed", "gone")]
