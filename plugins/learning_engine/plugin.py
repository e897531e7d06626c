"""Makes the package known to Airflow: the REST API, the page in the navigation, the version under Admin → Plugins.

The only file below plugins/ that Airflow executes by itself (plugins/.airflowignore): absolute imports, nothing heavy.
"""

from airflow.plugins_manager import AirflowPlugin

import learning_engine
from learning_engine.web import PREFIX
from learning_engine.web.lazy import LazyApp

TITLE = "Learning Engine"
# Without a slash before it: below the path of Airflow's own address, where that has one.
PAGE = f"{PREFIX.removeprefix('/')}/page/"


class LearningEnginePlugin(AirflowPlugin):  # type: ignore[misc]
    name = f"learning_engine {learning_engine.__version__}"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": TITLE}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": TITLE, "href": PAGE, "url_route": "learning-engine", "destination": "nav"},
        {"name": TITLE, "href": PAGE, "url_route": "learning-engine-dag", "destination": "dag"},
    ]
