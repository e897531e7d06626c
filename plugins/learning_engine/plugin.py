"""The Airflow plugin: registers the REST API, the page in the navigation, and the version under Admin → Plugins.

Every Airflow process executes this file, and no other below plugins/ (plugins/.airflowignore). So it uses absolute
imports and imports nothing heavy.
"""

from airflow.plugins_manager import AirflowPlugin

import learning_engine
from learning_engine.web import PREFIX
from learning_engine.web.lazy import LazyApp

TITLE = "Learning Engine"
# No leading slash: relative to Airflow's base URL, which may have a path.
PAGE = f"{PREFIX.removeprefix('/')}/page/"


class LearningEnginePlugin(AirflowPlugin):  # type: ignore[misc]
    name = f"learning_engine {learning_engine.__version__}"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": TITLE}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": TITLE, "href": PAGE, "url_route": "learning-engine", "destination": "nav"},
        {"name": TITLE, "href": PAGE, "url_route": "learning-engine-dag", "destination": "dag"},
    ]
