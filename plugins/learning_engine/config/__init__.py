"""Every setting with its bounds. Environment variables override the YAML file; a run's params override both."""

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
