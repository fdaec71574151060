"""caveat: honest uncertainty from any PyTorch network."""

from importlib import import_module

TYPE_CHECKING = False  # of `typing`, which takes as long to load as all else that is needed here
if TYPE_CHECKING:
    from caveat.engine import draws, predict, predict_batches
    from caveat.errors import CaveatError, NothingRandom
    from caveat.layers import insert_dropout
    from caveat.measures import (
        aleatoric_variance,
        decompose,
        epistemic_variance,
        expected_entropy,
        mutual_information,
        predictive_entropy,
        total_variance,
        variation_ratio,
    )
    from caveat.predictive import (
        Bernoulli,
        BinaryLogit,
        Categorical,
        Gaussian,
        Heads,
        Logits,
        Mean,
        MeanAndLogVariance,
        MeanAndVariance,
        Probabilities,
        model_precision,
    )
    from caveat.samplers import deterministic, ensemble, mc_dropout, mixture
    from caveat.stochastic import all_dropout, audit, dropout_modules, named, with_stochastic_depth
    from caveat.train import fit, fit_ensemble

__all__ = [
    "Bernoulli",
    "BinaryLogit",
    "Categorical",
    "CaveatError",
    "Gaussian",
    "Heads",
    "Logits",
    "Mean",
    "MeanAndLogVariance",
    "MeanAndVariance",
    "NothingRandom",
    "Probabilities",
    "aleatoric_variance",
    "all_dropout",
    "audit",
    "decompose",
    "deterministic",
    "draws",
    "dropout_modules",
    "ensemble",
    "epistemic_variance",
    "expected_entropy",
    "fit",
    "fit_ensemble",
    "insert_dropout",
    "mc_dropout",
    "mixture",
    "model_precision",
    "mutual_information",
    "named",
    "predict",
    "predict_batches",
    "predictive_entropy",
    "total_variance",
    "variation_ratio",
    "with_stochastic_depth",
]

_ROOMS = ("errors", "predictive", "layers", "measures", "stochastic", "engine", "samplers", "train")
"""Where the names above are from."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A name of ``__all__``, or a room such as ``caveat.metrics``: loaded, and torch with it, when asked for."""
        if name in __all__:
            rooms = (import_module(f"{__name__}.{room}") for room in _ROOMS)
            values = (getattr(room, name, None) for room in rooms)
            globals()[name] = found = next(filter(callable, values))  # a file of a room may have the name too
            return found
        room = f"{__name__}.{name}"
        if not name.startswith("_"):
            try:
                return import_module(room)
            except ModuleNotFoundError as error:
                if error.name != room:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
