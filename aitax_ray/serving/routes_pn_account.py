"""The routes of the format `pn` about the service and its client: state, quota, subscription; and what there is not."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.backend import num_remaining
from aitax_ray.serving.examples import PN_DAY, PN_SUBSCRIPTION
from aitax_ray.serving.openapi import answers
from aitax_ray.serving.pn_models import PnModel
from aitax_ray.serving.routes_pn import ERRORS

router = APIRouter(tags=["pn"], responses=ERRORS)


class PnCount(PnModel):
    """How many requests a client may send, and has sent."""

    count: int
    total: int
    remaining: int


class PnQuota(PnModel):
    """The quota of each kind of request."""

    identify: PnCount


class PnDay(PnModel):
    """The quota of a day."""

    day: str
    """ISO 8601."""
    quota: PnQuota


class PnSecurity(PnModel):
    """Where a key may be used."""

    expose_key: bool
    ips: list[str]
    domains: list[str]


class PnSubscription(PnModel):
    """The account of a client: the service has none, so everything is free."""

    account: str
    contract: str
    history: list[str]
    billing: str
    security: PnSecurity


@router.get("/v2/_status", responses=answers({"status": "ok"}))
async def status() -> dict[str, str]:
    """Say that the service answers."""
    return {"status": "ok"}


@router.get("/v2/quota", responses=answers(PN_DAY))
async def quota(request: Request) -> PnDay:
    """Say how many requests this client may still send today."""
    return _day(request, datetime.now(UTC).date())


@router.get("/v2/quota/daily", responses=answers(PN_DAY))
async def quota_daily(
    request: Request, day: Annotated[date | None, Query(description="ISO 8601; today.")] = None
) -> PnDay:
    """Say how many requests this client may send on a day, and has sent."""
    return _day(request, day or datetime.now(UTC).date())


@router.get("/v2/quota/history", responses=answers([PN_DAY]))
async def quota_history(
    request: Request, year: Annotated[int | None, Query(ge=1, le=9999, description="A year; this one.")] = None
) -> list[PnDay]:
    """List the days on which this client has sent requests; the service keeps no history."""
    return []


@router.get("/v2/subscription", responses=answers(PN_SUBSCRIPTION))
async def subscription() -> PnSubscription:
    """Describe the account of this client."""
    security = PnSecurity(expose_key=False, ips=[], domains=[])
    return PnSubscription(account="", contract="free", history=[], billing="none", security=security)


@router.post("/v2/survey/tiles/{project}")
@router.post("/v2/survey/custom/{project}")
@router.post("/v2/cost/survey/{project}")
async def survey(project: str) -> None:
    """Answer 501: surveys of large photographs are not offered."""
    raise RequestError("this service does not survey large photographs; identify parts of them with /v2/identify", 501)


@router.get("/v2/diseases")
@router.post("/v2/diseases/identify")
async def diseases() -> None:
    """Answer 501: the engine knows no diseases."""
    raise RequestError("this engine knows species, not diseases", 501)


@router.get("/v2/varieties")
@router.post("/v2/varieties/identify")
async def varieties() -> None:
    """Answer 501: the engine knows no varieties."""
    raise RequestError("this engine knows species, not varieties", 501)


def _day(request: Request, day: date) -> PnDay:
    remaining = num_remaining(request)
    return PnDay(day=day.isoformat(), quota=PnQuota(identify=PnCount(count=0, total=remaining, remaining=remaining)))
