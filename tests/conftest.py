"""What holds for the tests of the suite, and not for drills."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A warning fails a test of ours; a library's must not fail a drill."""
    config.addinivalue_line("filterwarnings", "error")
