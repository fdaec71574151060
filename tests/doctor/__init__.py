"""The doctor on networks and recipes whose faults are known."""
