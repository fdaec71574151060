"""Sources of network functions."""

from caveat.samplers.mc_dropout import MCDropout, mc_dropout

__all__ = ["MCDropout", "mc_dropout"]
