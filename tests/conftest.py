"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: fast (the default), ci and deep.

fast and ci try the same examples each time, so that a red run is red for everybody; deep looks for
new ones and is for the night before a release. An example has no deadline: a deadline would test
how busy the machine is.
"""

import os

from hypothesis import HealthCheck, settings

# Generating slowly is no bug on a shared machine; every other health check stays on.
UNHURRIED = [HealthCheck.too_slow]

settings.register_profile(
    "fast", max_examples=50, derandomize=True, deadline=None, suppress_health_check=UNHURRIED
)
settings.register_profile(
    "ci", max_examples=300, derandomize=True, deadline=None, suppress_health_check=UNHURRIED
)
settings.register_profile(
    "deep", max_examples=10_000, deadline=None, print_blob=True, suppress_health_check=UNHURRIED
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
