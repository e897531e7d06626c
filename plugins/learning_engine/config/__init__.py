"""Every setting with its bounds: YAML file, environment variables over it, one run's params over both."""

from learning_engine.config.settings import (
    DEFAULT_FILE,
    FILE_VARIABLE,
    PARAM_SETTINGS,
    PREFIX,
    Settings,
    config_file,
    digest,
    load,
)

__all__ = ["DEFAULT_FILE", "FILE_VARIABLE", "PARAM_SETTINGS", "PREFIX", "Settings", "config_file", "digest", "load"]
