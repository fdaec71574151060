"""What every test stands on: one thread, and property tests that do not mind how busy the machine is."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # tiny networks gain nothing from more, and two threads beside a busy neighbor crawl

settings.register_profile(
    "caveat",
    deadline=None,  # the first call of a torch kernel is many times slower than the next
    derandomize=True,  # the same examples each run: a failure is the change's own
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("caveat")
