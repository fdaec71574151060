"""caveat: honest uncertainty from any PyTorch network.

``caveat.mc_dropout(model, output=caveat.Logits())`` is a sampler of network functions, ``caveat.predict`` of it a
predictive, and ``caveat.decompose`` says how uncertain that is. Other samplers are in ``samplers``, measures in
``measures``; ``metrics``, ``calibrate`` and ``shift`` say how good it is, ``decide`` and ``acquire`` what to do;
``tabular``, ``text`` and ``image`` are estimators without a network of your own.
"""

from importlib import import_module

TYPE_CHECKING = False  # of `typing`, which takes as long to load as all else that is needed here
if TYPE_CHECKING:
    from caveat import acquire as acquire
    from caveat import calibrate as calibrate
    from caveat import cli as cli
    from caveat import decide as decide
    from caveat import errors as errors
    from caveat import image as image
    from caveat import interop as interop
    from caveat import layers as layers
    from caveat import losses as losses
    from caveat import measures as measures
    from caveat import metrics as metrics
    from caveat import plot as plot
    from caveat import predictive as predictive
    from caveat import samplers as samplers
    from caveat import shift as shift
    from caveat import tabular as tabular
    from caveat import testing as testing
    from caveat import text as text
    from caveat import train as train
    from caveat._compare import compare
    from caveat._doctor import doctor
    from caveat._engine import draws, predict, predict_batches
    from caveat._intercept import all_dropout, audit, dropout_modules, paths, with_stochastic_depth
    from caveat.errors import CaveatError, NothingRandomError
    from caveat.interop import export_onnx
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
    from caveat.train import fit, fit_ensemble

    __version__: str

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
    "NothingRandomError",
    "Probabilities",
    "aleatoric_variance",
    "all_dropout",
    "audit",
    "compare",
    "decompose",
    "deterministic",
    "doctor",
    "draws",
    "dropout_modules",
    "ensemble",
    "epistemic_variance",
    "expected_entropy",
    "export_onnx",
    "fit",
    "fit_ensemble",
    "insert_dropout",
    "mc_dropout",
    "mixture",
    "model_precision",
    "mutual_information",
    "paths",
    "predict",
    "predict_batches",
    "predictive_entropy",
    "total_variance",
    "variation_ratio",
    "with_stochastic_depth",
]

_HOMES = (
    *("errors", "predictive", "layers", "measures", "_intercept", "_engine", "samplers", "train"),
    *("_compare", "_doctor", "interop"),
)
"""The packages that the names above are from, lowest first."""

_PACKAGES = (
    "acquire",
    "calibrate",
    "cli",
    "decide",
    "errors",
    "image",
    "interop",
    "layers",
    "losses",
    "measures",
    "metrics",
    "plot",
    "predictive",
    "samplers",
    "shift",
    "tabular",
    "testing",
    "text",
    "train",
)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Returns a name of ``__all__`` or a public package, loaded, and torch with it, when it is asked for."""
        if name in __all__:
            homes = (import_module(f"{__name__}.{home}") for home in _HOMES)
            globals()[name] = value = next(getattr(home, name) for home in homes if name in vars(home))
            return value
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        if name == "__version__":
            return import_module("importlib.metadata").version(__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*__all__, *_PACKAGES, "__version__", *(name for name in globals() if name.startswith("__"))})
