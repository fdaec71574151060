"""Losses for networks that predict how noisy the data are: plain functions of what a network returned and a target."""

from caveat.losses._attenuated_cross_entropy import attenuated_cross_entropy
from caveat.losses._beta_nll import beta_nll
from caveat.losses._gaussian_nll import gaussian_nll

__all__ = ["attenuated_cross_entropy", "beta_nll", "gaussian_nll"]
