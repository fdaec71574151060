"""PyTorch Lightning: a callback that makes ``Trainer.predict`` give predictives.

While it predicts, the trainer holds the module in eval mode, so dropout that ``predict_step`` switches on by itself is
either undone or takes batch normalization along. Here the trainer, its hooks and the module stay as they are: a step is
``caveat.predict`` of the network that the step would have called once.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import caveat._extras as extras
from caveat._engine import as_output, inputs_of, predict
from caveat._seeds import check_seed
from caveat.interop._around import Around
from caveat.predictive import Output
from caveat.samplers import mc_dropout

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_predictive(
    output: Output | dict[str, Output], *, n: int | Literal["auto"] = 100, seed: int = 0, **settings: Any
) -> Any:
    """A callback with which ``Trainer.predict(module, loader)`` returns a predictive for each batch.

    The network is the module's own ``predict_step`` where it has one, called once per draw with the batch, and else its
    ``forward`` with the batch: of a list or tuple with the items that ``forward`` needs, so that labels stay out. Each
    draw is a thinned network, as ``caveat.mc_dropout`` makes it; the module is as before when prediction ends, also by
    an exception. Checkpoints (``ckpt_path=``), several loaders, data modules and prediction writers work as without
    the callback.

    Args:
        output: How to read what the network returns.
        n: Number of draws, or "auto".
        seed: Random seed for the draws: the same functions for every batch.
        settings: Other arguments of ``caveat.mc_dropout`` (``live``, ``masks``, ``in_dims``, ...).

    Returns:
        A ``LambdaCallback`` of the lightning that is loaded (``lightning`` or ``pytorch_lightning``), for
        ``Trainer(callbacks=[...])``.

    Raises:
        MissingExtraError: Lightning is not installed, or older than 2.4.
        NothingRandomError: While predicting: the module has no dropout that reaches what is read.
        OutputMismatchError: While predicting: the network does not return what ``output`` reads.

    See "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, https://arxiv.org/abs/1506.02142.
    """
    step = Step(output, n, seed, settings)
    return make_callback(on_predict_start=step.put_in, on_predict_end=step.take_out, on_exception=step.take_out)


def make_callback(**hooks: Callable[..., None]) -> Any:
    """A ``LambdaCallback`` of the package that is loaded already, or else of one that is installed."""
    loaded = [name for name in _PACKAGES if sys.modules.get(name)]
    installed = [name for name in _PACKAGES if importlib.util.find_spec(name.split(".")[0])]
    package = (loaded or installed or _PACKAGES)[0]
    return extras.require(f"{package}.callbacks", "lightning", at_least="2.4").LambdaCallback(**hooks)


# -- the network -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Step:
    """A step of the trainer that draws from a module; the sampler is kept while the module is the same."""

    output: Output | dict[str, Output]
    n: int | Literal["auto"]
    seed: int
    settings: Mapping[str, Any]
    sampler: Any = None
    module: Any = None
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    numbers: tuple[Any, ...] = ()  # of the batch and its loader: no input of the network, they change each time

    def __post_init__(self) -> None:
        self.output = as_output(self.output)
        check_seed(self.seed)

    def put_in(self, trainer: Any, module: Any) -> None:
        """Put this step in the place of the module's ``predict_step``, until ``take_out``."""
        step = module.predict_step

        @functools.wraps(step)  # the trainer looks which arguments it takes
        def predict_step(batch: Any, *rest: Any) -> Any:
            return self.predict(module, batch, *rest, step=step)

        held = cast("dict[str, Any]", vars(module))
        self.module, self.before = module, {name: held[name] for name in ("predict_step",) if name in held}
        module.predict_step = predict_step

    def take_out(self, *_: Any) -> None:
        """Undo ``put_in``."""
        if self.module is not None:
            vars(self.module).pop("predict_step", None)
            vars(self.module).update(self.before)
        self.module = self.sampler = None

    def predict(self, module: Any, batch: Any, *rest: Any, step: Callable[..., Any] | None = None) -> Any:
        """The predictive of a batch."""
        if self.sampler is None or self.module is not module:
            self.sampler = mc_dropout(
                self._network(module, step or module.predict_step), output=cast(Any, self.output), **self.settings
            )
            self.module = module
        self.numbers = rest
        network = self.sampler.model
        of_items = type(batch) in (list, tuple) and not isinstance(network, Around)
        inputs = inputs_of(batch, network) if of_items else (batch,)  # a dict is one argument, as in Lightning
        return predict(self.sampler, inputs, self.n, seed=self.seed)

    def _network(self, module: Any, step: Callable[..., Any]) -> Any:
        """The module's own step as a network of a batch; the module where the step is Lightning's."""

        def one_pass(batch: Any) -> Any:
            return step(batch, *self.numbers)

        return Around(module, one_pass) if _is_own(step) else module


def _is_own(step: Any) -> bool:
    """Returns whether ``predict_step`` is the module's own; Lightning's hands the whole batch to ``forward``."""
    classes = [sys.modules[name].LightningModule for name in _PACKAGES if sys.modules.get(name)]
    return all(getattr(step, "__func__", None) is not cls.predict_step for cls in classes)
