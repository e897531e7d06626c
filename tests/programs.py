"""Programs that some tests need and `make install` does not install."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, where `make test-real` has installed everything."""
    (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(f"{what}: see `make test-real`")
    raise AssertionError
