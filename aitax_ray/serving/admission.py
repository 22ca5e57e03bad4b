"""Lets a request in, or refuses it, by its key: in the address (`api-key`) or in the header `Authorization: Bearer`."""

import math
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyQuery, HTTPBearer

from aitax_ray.errors import RequestError
from aitax_ray.serving.accounts import PAGE, Verdict
from aitax_ray.serving.backend import UNLIMITED, BackendOf
from aitax_ray.serving.keys import digest

DAY_S, MINUTE_S = 86_400, 60
SCHEME = "bearer "
WHAT = "A key of `aitax keys add`, if the service needs keys."
IN_ADDRESS = APIKeyQuery(name="api-key", scheme_name="api-key", description=WHAT, auto_error=False)
IN_HEADER = HTTPBearer(scheme_name="bearer", description=WHAT, auto_error=False)
NEEDS_KEY = "this needs a key of this service: send it as api-key in the address, or as Authorization: Bearer"
MESSAGES = {
    401: NEEDS_KEY,
    403: "this key may not be used from this origin",
    429: "too many requests with this key; the header Retry-After says when to ask again",
}


def find_key(request: Request) -> str:
    """Find the key of a request; "" if it has none."""
    header = request.headers.get("authorization", "")
    bearer = header[len(SCHEME) :].strip() if header.lower().startswith(SCHEME) else ""
    return request.query_params.get("api-key", "").strip() or bearer


async def ask(request: Request, backend: BackendOf, holder: str | None, cost: int | None) -> Verdict | None:
    """Ask the ledger; None where the service needs no keys. Raises RequestError (401, 403, 429) with headers.

    `holder` is the sha256 of the key, or a name; None: the key of the request.
    """
    if backend.ledger is None:
        return None
    key = find_key(request)
    holder = holder or (digest(key) if key else "")
    verdict = await backend.ledger.ask(holder, request.headers.get("origin", ""), cost)
    if verdict.name:
        request.state.num_remaining = remaining(verdict.count, verdict.per_day)
        request.state.headers = quota_headers(verdict)
    if verdict.status in MESSAGES:
        raise RequestError(MESSAGES[verdict.status], verdict.status, _refusal_headers(verdict))
    if cost:
        request.state.on_failure = partial(backend.ledger.give_back, holder, verdict.day, cost)
    return verdict


async def history(request: Request, backend: BackendOf, year: int) -> dict[str, int]:
    """Count the identifications of the key of a request, by day (ISO 8601); {} where the service needs no keys."""
    return await backend.ledger.history(digest(find_key(request)), year) if backend.ledger is not None else {}


def remaining(count: int, per_day: int | None) -> int:
    """Give the number of identifications that are left of a day's quota."""
    return UNLIMITED if per_day is None else max(0, per_day - count)


def quota_headers(verdict: Verdict) -> dict[str, str]:
    """Write the quota of a day: draft-ietf-httpapi-ratelimit-headers-08, as Pl@ntNet does, and the older names."""
    policies, ends, left = [], math.ceil(verdict.day_ends_s), str(remaining(verdict.count, verdict.per_day))
    headers = {"X-RateLimit-Remaining": left, "RateLimit-Remaining": left}
    if verdict.per_day is not None:
        policies.append(f'"dailyQuota";q={verdict.per_day};w={DAY_S}')
        headers |= {"RateLimit-Limit": str(verdict.per_day), "RateLimit-Reset": str(ends)}
        headers["RateLimit"] = f'"dailyQuota";r={left};t={ends}'
    if verdict.per_minute is not None:
        policies.append(f'"minute";q={verdict.per_minute};w={MINUTE_S}')
    return headers | ({"RateLimit-Policy": ", ".join(policies)} if policies else {})


def _refusal_headers(verdict: Verdict) -> dict[str, str]:
    if verdict.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if verdict.status == 429:
        # A date has whole seconds: rounded up, so that who comes then is let in.
        return {"Retry-After": formatdate(math.ceil(time.time() + verdict.wait_s), usegmt=True)}
    return {}


async def _describe_keys(
    query: Annotated[str | None, Security(IN_ADDRESS)], header: Annotated[Any, Security(IN_HEADER)]
) -> None:
    """Tell the OpenAPI how a key is sent; `find_key` reads it."""


Keys = Annotated[None, Depends(_describe_keys)]


def _admit(cost: int | None) -> Callable[..., Awaitable[Verdict | None]]:
    async def admit(request: Request, backend: BackendOf, _keys: Keys) -> Verdict | None:
        return await ask(request, backend, None, cost)

    return admit


async def admit_page(request: Request, backend: BackendOf) -> None:
    """Let a visitor of the page in, who has no key: all visitors together are counted under the key named `page`."""
    await ask(request, backend, PAGE, 1)


IDENTIFIES = Depends(_admit(1))
EMBEDS = Depends(_admit(0))  # as at Pl@ntNet, only the rate counts
Account = Annotated[Verdict | None, Depends(_admit(None))]
