"""Responses of the REST API. Times are ISO 8601 in UTC, losses in nats per supervised token, sizes in bytes.

Records of the package (`contracts`, `report`) appear as stored in the bucket, without the schema number.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from learning_engine.records.contracts import AdapterVersion, Deployment, Window
from learning_engine.registry.draft import Revocation, Vouch


class ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True)


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Problem(ResponseModel):
    """RFC 9457: what was expected, what was found and what to do."""

    model_config = _examples(
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Expected a published version, found no v9.9: GET /adapters lists them.",
            "errors": [],
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = Field(
        default_factory=list, description="For 422: location and message of each error."
    )


class Live(ResponseModel):
    """The model that applications request from the model server; without a deployment, the base model's name."""

    model_config = _examples(
        {
            "model": "v1.3-5e0c81aa",
            "version": "v1.3",
            "base_model": "meta-llama/Llama-3.1-8B-Instruct",
            "since": "2026-11-16T03:12:40Z",
            "proven": True,
        }
    )

    model: str
    version: str | None
    base_model: str | None = Field(description="None if the live version's metadata cannot be read.")
    since: datetime | None
    proven: bool | None
    age_seconds: float = Field(0, description="Age of the answer; more than 0 while the store is unavailable.")


class Check(ResponseModel):
    """The health of one component. `unknown`: the api-server cannot determine it."""

    name: str = Field(examples=["store"])
    kind: Literal["database", "store", "replica", "gpu_workers", "scheduler", "next_parent", "ledger"]
    state: Literal["up", "degraded", "down", "unknown"]
    latency_ms: float | None = None
    reason: str | None = Field(None, description="Why it is not up, and what to do.")
    detail: dict[str, Any] = Field(default_factory=dict)


class Health(ResponseModel):
    """`down`, answered with 503, if a component that training or serving depends on is down."""

    state: Literal["up", "degraded", "down"]
    checks: list[Check]


class May(ResponseModel):
    train: bool
    fisher: bool
    deploy: bool


class Me(ResponseModel):
    """The signed-in user, and the actions they may start."""

    name: str
    may: May


class RunAccepted(ResponseModel):
    """A DAG run that Airflow has accepted. `status` is the address of its status, `airflow` its page in Airflow."""

    dag_id: str
    run_id: str
    state: str
    status: str
    airflow: str


class AdapterSummary(ResponseModel):
    """A version in a list."""

    version: str
    parent: str | None
    window: Window
    created_at: datetime
    base_model: str
    accepted: bool
    live: bool
    revoked: bool
    vouched: bool
    failed_rules: list[str] = Field(description="The gate rules that it failed.")
    rows: int
    thumbs_up: int
    thumbs_down: int
    loss: float | None = Field(description="On the held-out rows of its window.")
    loss_parent: float | None
    loss_base: float | None
    retained: float | None = Field(
        description="The smallest retained share over all earlier windows, of what they taught where that can be "
        "judged, of their best improvement in loss otherwise; None without one."
    )
    drift_parent: float | None
    ewc_lambda: float
    size: int
    sha256: str


class AdapterPage(ResponseModel):
    """Newest first."""

    total: int
    limit: int
    offset: int
    items: list[AdapterSummary]
    unreadable: list[str] = Field(description="Versions whose metadata cannot be read: see the daily audit.")


class AdapterDetail(ResponseModel):
    """All details of a version."""

    summary: AdapterSummary
    metadata: AdapterVersion
    lineage: list[str] = Field(description="Its ancestors, parent first.")
    children: list[str]
    digests: dict[str, str] = Field(description="sha256 of each object that its record names, by URI.")
    revocation: Revocation | None
    vouch: Vouch | None
    deployments: list[Deployment] = Field(description="Its entries in the ledger, newest first.")


class DeploymentPage(ResponseModel):
    """The ledger, newest first."""

    total: int
    limit: int
    offset: int
    items: list[Deployment]
    rollback_target: str | None = Field(
        description="The version that a rollback would return to; None if only the base model is left, or if a corrupt "
        "entry hides it."
    )
    unreadable: list[str] = Field(default_factory=list, description="Entries that cannot be read: see the daily audit.")


class DeploymentAt(ResponseModel):
    """The version that was live at `time`; None means the base model."""

    time: datetime
    version: str | None
    deployment: Deployment | None


class StorageArea(ResponseModel):
    area: str = Field(examples=["adapters"])
    objects: int
    bytes: int


class Storage(ResponseModel):
    """The objects below `store.prefix`."""

    bucket: str
    prefix: str
    objects: int
    bytes: int
    areas: list[StorageArea]
    versions: int
    accepted: int
    rejected: int
    revoked: int
    largest: list[StorageArea] = Field(description="The largest versions.")
