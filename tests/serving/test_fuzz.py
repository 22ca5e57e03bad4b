"""Requests that schemathesis makes up from the OpenAPI, right and wrong ones.

None gets a 5xx, and each answer has the status, the type and the form that the OpenAPI promises.
"""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings

from aitax_ray.serving.backend import Backend
from aitax_ray.serving.http import make_app
from tests.engines import COLOURS, photo
from tests.serving.service import RED_URL

schemathesis = pytest.importorskip("schemathesis", reason="run `make test`, which installs it")
conformance = pytest.importorskip("schemathesis.specs.openapi.checks")

CHECKS = [
    schemathesis.checks.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]
NOT_OFFERED = "survey|diseases|varieties"  # they answer 501
RED = photo(COLOURS["11"])


def no_backend() -> Backend:
    raise NotImplementedError  # the OpenAPI needs none


schema = schemathesis.openapi.from_dict(make_app(no_backend).openapi()).exclude(path_regex=NOT_OFFERED)


def mend(case: Any) -> None:
    """Give half of the requests a photograph and the engine's project, and take other parameters away.

    Made-up photographs are random bytes and made-up projects do not exist, so no answer would be a 200.
    """
    if len(repr((case.query, case.body))) % 2:
        return
    if "project" in case.path_parameters:
        case.path_parameters["project"] = "all"
    for name in {"image", "images", "name"} & case.query.keys():
        case.query = {name: "Ruber primus" if name == "name" else [RED_URL]}
    if isinstance(case.body, dict):
        case.query, case.body = {}, {name: [RED] for name in case.body if name in ("image", "images")}


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests_get_answers_as_the_openapi_promises(service: httpx.Client, case: Any) -> None:
    mend(case)
    case.call_and_validate(base_url=str(service.base_url), checks=CHECKS)
