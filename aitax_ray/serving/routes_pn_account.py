"""The routes of the format `pn` about the service and its client: state, quota, subscription; and what there is not."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.accounts import Verdict
from aitax_ray.serving.admission import Account, history, remaining
from aitax_ray.serving.backend import UNLIMITED, BackendOf
from aitax_ray.serving.examples import PN_DAY, PN_SUBSCRIPTION
from aitax_ray.serving.openapi import answers
from aitax_ray.serving.pn_models import PnModel
from aitax_ray.serving.routes_pn import ERRORS

router = APIRouter(tags=["pn"], responses=ERRORS)


class PnCount(PnModel):
    """How many identifications a client may ask for, and has asked for."""

    count: int
    total: int
    remaining: int


class PnQuota(PnModel):
    """The quota of each kind of request."""

    identify: PnCount


class PnDay(PnModel):
    """The quota of a day; of an earlier day the quota is the one that holds now."""

    day: str
    """ISO 8601."""
    quota: PnQuota


class PnSecurity(PnModel):
    """Where a key may be used."""

    expose_key: bool
    ips: list[str]
    domains: list[str]


class PnSubscription(PnModel):
    """The account of a client: that of its key, if the service has keys."""

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
async def quota(account: Account) -> PnDay:
    """Say how many identifications this client may still ask for today."""
    return _today(account)


@router.get("/v2/quota/daily", responses=answers(PN_DAY))
async def quota_daily(
    request: Request,
    backend: BackendOf,
    account: Account,
    day: Annotated[date | None, Query(description="ISO 8601; today.")] = None,
) -> PnDay:
    """Say how many identifications this client may ask for on a day, and has asked for."""
    today = _today(account)
    if day is None or day.isoformat() == today.day:
        return today
    counts, per_day = await history(request, backend, day.year), account.per_day if account is not None else None
    return _day(day.isoformat(), counts.get(day.isoformat(), 0), per_day)


@router.get("/v2/quota/history", responses=answers([PN_DAY]))
async def quota_history(
    request: Request,
    backend: BackendOf,
    account: Account,
    year: Annotated[int | None, Query(ge=1, le=9999, description="A year; this one.")] = None,
) -> list[PnDay]:
    """List the days on which this client has asked for identifications."""
    counts = await history(request, backend, year or datetime.now(UTC).year)
    per_day = account.per_day if account is not None else None
    return [_day(day, count, per_day) for day, count in counts.items()]


@router.get("/v2/subscription", responses=answers(PN_SUBSCRIPTION))
async def subscription(account: Account) -> PnSubscription:
    """Describe the account of this client."""
    name, origins = (account.name, list(account.origins)) if account is not None else ("", [])
    security = PnSecurity(expose_key=bool(origins), ips=[], domains=origins)
    return PnSubscription(account=name, contract="free", history=[], billing="none", security=security)


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


def _today(account: Verdict | None) -> PnDay:
    if account is None:
        return _day(datetime.now(UTC).date().isoformat(), 0, None)
    return _day(account.day, account.count, account.per_day)  # the clock of the ledger counts


def _day(day: str, count: int, per_day: int | None) -> PnDay:
    total = UNLIMITED if per_day is None else per_day
    identify = PnCount(count=count, total=total, remaining=remaining(count, per_day))
    return PnDay(day=day, quota=PnQuota(identify=identify))
