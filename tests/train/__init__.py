"""Training: one network, ensembles, grids, checkpoints."""
