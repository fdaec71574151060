"""Training: ``fit`` one network, ``fit_ensemble`` of M at once, ``fit_many`` runs of a grid or of data splits."""

from caveat.train.ensemble import fit_ensemble
from caveat.train.history import Fit, FittedEnsemble, History
from caveat.train.many import fit_many
from caveat.train.run import Run
from caveat.train.seeding import member_seed
from caveat.train.single import fit

__all__ = ["Fit", "FittedEnsemble", "History", "Run", "fit", "fit_ensemble", "fit_many", "member_seed"]
