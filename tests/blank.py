"""Rows in which nothing is known, for tests that care about some columns only."""

from typing import Any

import pyarrow as pa

EMPTY = {pa.string(): "", pa.bool_(): False, pa.int64(): 0, pa.int32(): 0}


def blank_row(schema: pa.Schema, **known: Any) -> dict[str, Any]:
    """A row of a schema with its text "", its numbers 0, its flags off and its lists empty, but for what is `known`."""
    return {field.name: [] if pa.types.is_list(field.type) else EMPTY.get(field.type) for field in schema} | known
