"""The speed and memory of caveat against plain loops: ``make bench``, or ``pytest benchmarks``."""
