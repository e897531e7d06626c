"""What the REST API takes: bodies and queries with their bounds. An unknown field is refused."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

# As `registry.manifest` reads them.
Version = Annotated[str, Field(pattern=r"^v(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$", examples=["v1.3"])]
Note = Annotated[str, Field(max_length=500, description="Shown with the DAG run in Airflow.")]


def _within_reach(moment: datetime) -> datetime:
    # Nearer to either end of what a datetime can hold, a change of zone or a day less is an OverflowError.
    if not 2000 <= moment.year < 9000:
        raise ValueError(f"expected a time from the year 2000 on and before 9000, found {moment.isoformat()}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_within_reach)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class WindowBody(Body):
    """A half-open interval [start, end) of feedback; both with a time zone."""

    start: Moment = Field(examples=["2026-11-09T02:00:00Z"])
    end: Moment = Field(examples=["2026-11-16T02:00:00Z"])

    @model_validator(mode="after")
    def _in_order(self) -> "WindowBody":
        if self.start >= self.end:
            raise ValueError("expected start before end")
        if self.end > datetime.now(UTC):
            raise ValueError("expected a window that is over: feedback that comes in later would never be read")
        return self


class TrainBody(Body):
    """One run of the weekly DAG. What is left out is as configured; no window is the last complete interval."""

    model_config = _examples(
        {},
        {
            "window": {"start": "2026-11-09T02:00:00Z", "end": "2026-11-16T02:00:00Z"},
            "ewc_lambda": 200,
            "deploy": "never",
        },
    )

    window: WindowBody | None = None
    min_samples: int | None = Field(None, ge=1, le=100_000_000, description="Fewer rows than this: nothing is trained.")
    ewc_lambda: float | None = Field(None, ge=0, le=1e9, description="How firmly earlier lessons are held; 0: no EWC.")
    epochs: float | None = Field(None, gt=0, le=1000, description="Passes over the window's rows.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate of AdamW.")
    base_model: str | None = Field(None, min_length=1, max_length=500, description="Another one: a new major version.")
    deploy: Literal["auto", "approve", "never"] | None = Field(
        None, description="auto: what the gate accepts goes live. approve: a person decides. never: publish only."
    )
    force: Literal["none", "count", "quality"] = Field(
        "none", description="count: train however few samples there are. quality: deploy what the gate rejects, too."
    )
    note: Note | None = None


class FisherBody(Body):
    """Fisher information of a version, measured anew; without a window on the version's own."""

    model_config = _examples({"version": "v1.3", "note": "after a change of fisher.draws"})

    version: Version
    window: WindowBody | None = None
    note: Note | None = None


class DeployBody(Body):
    """Why somebody deploys."""

    model_config = _examples({"note": "users of the shop complain"})

    note: Note | None = None


class RollbackBody(Body):
    """Why somebody rolls back, and what they mean to leave."""

    model_config = _examples({}, {"version": "v1.3", "note": "users of the shop complain"})

    version: Version | None = Field(None, description="What it leaves; 409 where another is live. By default that one.")
    note: Note | None = None
