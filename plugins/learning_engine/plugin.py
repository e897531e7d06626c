"""Makes the package known to Airflow: it stands under Admin → Plugins, with its version.

The only file below plugins/ that Airflow executes by itself (plugins/.airflowignore): absolute imports, nothing heavy.
"""

from airflow.plugins_manager import AirflowPlugin

import learning_engine


class LearningEnginePlugin(AirflowPlugin):  # type: ignore[misc]
    name = f"learning_engine {learning_engine.__version__}"
