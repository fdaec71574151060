"""What every test stands on: few threads, and property tests that do not mind how busy the machine is."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(min(2, os.cpu_count() or 1))

settings.register_profile(
    "caveat",
    deadline=None,  # the first call of a torch kernel is many times slower than the next
    derandomize=True,  # the same examples each run: a failure is the change's own
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("caveat")
