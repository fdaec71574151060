"""Training: ``fit`` one network, ``fit_ensemble`` of M at once, ``fit_many`` runs of a grid or of data splits."""

from caveat.train._ensemble import fit_ensemble
from caveat.train._history import Fit
from caveat.train._many import fit_many
from caveat.train._run import Run
from caveat.train._single import fit

__all__ = ["Fit", "Run", "fit", "fit_ensemble", "fit_many"]
