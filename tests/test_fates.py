import duckdb

from aitax_ray.fates import fates_sql

ATTEMPTS = """(VALUES
    ('a', 'r1', 'failed', 'timeout', 1, ''), ('a', 'r2', 'ok', '', 2, 'f'),
    ('b', 'r1', 'ok', '', 1, 'f'), ('b', 'r1', 'failed', 'timeout', 2, ''),
    ('c', 'r2', 'failed', 'gone', 3, ''), ('c', 'r1', 'ok', '', 4, 'f'), ('c', 'r3', 'retried', 'timeout', 5, ''),
    ('d', 'r1', 'retried', 'timeout', 1, ''),
    ('e', 'r1', 'ok', '', 1, 'g'), ('e', 'r1', 'ok', '', 1, 'h'), ('e', 'r1', 'ok', '', 1, 'f')
    ) AS attempt(image_id, run, status, reason, fetched_at, shard)"""


def test_the_last_run_decides_and_within_a_run_success_does() -> None:
    rows = duckdb.execute(fates_sql(["run", "status", "reason", "shard"], ATTEMPTS) + " ORDER BY image_id").fetchall()
    assert rows == [
        ("a", "r2", "ok", "", "f"),
        ("b", "r1", "ok", "", "f"),
        ("c", "r2", "failed", "gone", ""),
        ("e", "r1", "ok", "", "h"),  # of equal attempts always the same
    ]
