"""Settings of the whole suite: reproducible property tests, and no window for pictures."""

import os

import pytest
from hypothesis import settings

# before anything imports matplotlib or NumPy; worker processes inherit it
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers have the cores: more threads wait for each other

# The same examples in every run, so that a red suite is red again; no deadline, because times vary with the machine.
settings.register_profile("quick", deadline=None, derandomize=True, database=None, max_examples=25)
settings.register_profile("deep", parent=settings.get_profile("quick"), max_examples=500)


def pytest_configure(config: pytest.Config) -> None:
    """Load the profile before any test module is imported: `-m deep` means more examples too."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("deep" if config.getoption("markexpr") == "deep" else "quick")
