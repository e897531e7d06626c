"""What the stub server answers and has been asked."""

from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import Response

from learning_engine.web import response_models, training_models
from tests.cli import samples

# In `instead`: no replacement, send the ordinary response.
ORDINARY = Response(status_code=204)


@dataclass
class Stub:
    """The stub's responses, which tests change, and the requests it received, which tests read."""

    url: str = ""
    health: response_models.Health = field(default_factory=samples.health)
    preflight: training_models.Preflight = field(default_factory=samples.preflight)
    # The successive states of each weekly run, one per request; the last one repeats.
    trainings: dict[str, list[training_models.TrainingRun]] = field(default_factory=dict)
    # The same for runs of other DAGs.
    dag_runs: dict[str, list[str]] = field(default_factory=dict)
    versions: tuple[Any, ...] = samples.VERSIONS
    ledger: tuple[Any, ...] = (samples.deployment("v1.1", "v1.0", 2), samples.deployment("v1.0", None, 1))
    damaged: tuple[str, ...] = ()
    archive: bytes = samples.ARCHIVE
    promised: str = samples.SHA256
    # By "METHOD path": responses that replace the ordinary one, each used once.
    instead: dict[str, list[Response]] = field(default_factory=dict)
    # Users whose tokens have expired.
    expired: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def asked_for(self, path: str) -> list[dict[str, Any]]:
        return [question for question in self.asked if question["path"] == path]


def problem(status: int, detail: str, title: str = "A problem", **more: Any) -> Response:
    body = response_models.Problem(title=title, status=status, detail=detail, **more).model_dump_json()
    return Response(body, status, media_type="application/problem+json")
