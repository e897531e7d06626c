"""Request bodies and parameters of the REST API, with their bounds. Unknown fields are rejected."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

# The format that `registry.manifest` parses.
Version = Annotated[str, Field(pattern=r"^v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$", examples=["v1.3"])]
Note = Annotated[str, Field(max_length=500, description="Shown with the DAG run in Airflow.")]


def _in_supported_years(moment: datetime) -> datetime:
    # Close to the limits of datetime, a time zone conversion or a timedelta raises OverflowError.
    if not 2000 <= moment.year < 9000:
        raise ValueError(f"expected a time from 2000 to 8999, found {moment.isoformat()}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_in_supported_years)]


class RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class WindowBody(RequestModel):
    """A half-open interval [start, end) of feedback. Both times need a time zone."""

    start: Moment = Field(examples=["2026-11-09T02:00:00Z"])
    end: Moment = Field(examples=["2026-11-16T02:00:00Z"])

    @model_validator(mode="after")
    def _in_order(self) -> "WindowBody":
        if self.start >= self.end:
            raise ValueError("expected start before end")
        if self.end > datetime.now(UTC):
            raise ValueError("expected a window that has ended: feedback that arrives later would never be read")
        return self


class TrainBody(RequestModel):
    """A run of the weekly DAG. Omitted settings are as configured. Default window: the last complete interval."""

    model_config = _examples(
        {},
        {
            "window": {"start": "2026-11-09T02:00:00Z", "end": "2026-11-16T02:00:00Z"},
            "ewc_lambda": 200,
            "deploy": "never",
        },
    )

    window: WindowBody | None = None
    min_samples: int | None = Field(None, ge=1, le=100_000_000, description="With fewer rows, nothing is trained.")
    ewc_lambda: float | None = Field(None, ge=0, le=1e9, description="Strength of the EWC penalty; 0 disables EWC.")
    epochs: float | None = Field(None, gt=0, le=1000, description="Passes over the window's rows.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate of AdamW.")
    base_model: str | None = Field(
        None, min_length=1, max_length=500, description="A different base model starts a new major version."
    )
    deploy: Literal["auto", "approve", "never"] | None = Field(
        None, description="auto: deploy what the gate accepts. approve: a person decides. never: publish only."
    )
    force: Literal["none", "count", "quality"] = Field(
        "none", description="count: train with any number of rows. quality: deploy even if the gate rejects."
    )
    note: Note | None = None


class FisherBody(RequestModel):
    """Recalculate the Fisher information of a version; without a window, on the version's own."""

    model_config = _examples({"version": "v1.3", "note": "fisher.draws was changed"})

    version: Version
    window: WindowBody | None = None
    note: Note | None = None


class DeployBody(RequestModel):
    """The reason for a deployment."""

    model_config = _examples({"note": "users of the shop complain"})

    note: Note | None = None


class RollbackBody(RequestModel):
    """The reason for a rollback, and the version to roll back from."""

    model_config = _examples({}, {"version": "v1.3", "note": "users of the shop complain"})

    version: Version | None = Field(
        None, description="The version to roll back from; 409 if another one is live. Default: the live version."
    )
    note: Note | None = None
