"""Shared test configuration: hypothesis profiles.

``fast`` (default) draws the same examples on every run; ``HYPOTHESIS_PROFILE=deep`` searches with fresh ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fast", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.register_profile(
    "deep", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
