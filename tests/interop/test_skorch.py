"""Fitted skorch nets: the predictives beside a plain loop over the module's dropout and the net's own reading."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, MissingExtraError, NothingRandomError, NotProbabilitiesError
from caveat.interop import skorch_predict, skorch_sampler

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
KINDS = ["cross-entropy", "likelihood of probabilities", "binary", "own nonlinearity", "regression"]


class Module(nn.Module):
    def __init__(self, outputs: int = 3, last: Any = None, rate: float = 0.4) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(rate))
        self.last = nn.Linear(16, outputs)
        self.end = nn.Identity() if last is None else last

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.last(self.hidden(x)))


def fitted(kind: str, **settings: Any) -> Any:
    skorch = pytest.importorskip("skorch")
    own: dict[str, Any] = {"max_epochs": 1, "batch_size": 25, "verbose": 0, "train_split": None, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "cross-entropy":
            return skorch.NeuralNetClassifier(Module, criterion=nn.CrossEntropyLoss, **own).fit(X, LABELS)
        if kind == "likelihood of probabilities":
            return skorch.NeuralNetClassifier(Module, module__last=nn.Softmax(-1), **own).fit(X, LABELS)
        if kind == "binary":
            y = (LABELS > 0).astype(np.float32)
            net = skorch.NeuralNetBinaryClassifier(Module, module__outputs=1, module__last=nn.Flatten(0), **own)
            return net.fit(X, y)
        if kind == "own nonlinearity":
            by = {"predict_nonlinearity": lambda y: (2 * y).softmax(-1)}
            return skorch.NeuralNetClassifier(Module, criterion=nn.CrossEntropyLoss, **by, **own).fit(X, LABELS)
        return skorch.NeuralNetRegressor(Module, module__outputs=1, **own).fit(X, X[:, :1] - X[:, 1:2])


def loop(net: Any, n: int) -> Tensor:
    """n passes as the net predicts, of a copy in eval mode whose dropout alone is on."""
    twin = copy.deepcopy(net.module_).eval()
    for part in twin.modules():
        if isinstance(part, nn.Dropout):
            part.train()
    read = net._get_predict_nonlinearity()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return torch.stack([read(twin(torch.from_numpy(X))) for _ in range(n)])


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_a_plain_loop(kind: str) -> None:
    net, n = fitted(kind), 1000
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    flags = [part.training for part in net.module_.modules()]
    pred = skorch_predict(net, X, n)
    truth = loop(net, 3000)
    error = truth.std(0) * (1 / n + 1 / 3000) ** 0.5
    assert ((pred.mean - truth.mean(0)) / error).abs().max() < 4.5
    variance = pred.epistemic_variance if isinstance(pred, caveat.Gaussian) else pred.variance
    torch.testing.assert_close(variance.sqrt(), truth.std(0), rtol=0.15, atol=1e-4)
    assert [part.training for part in net.module_.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in net.module_.state_dict().items())
    torch.testing.assert_close(pred.mean[25:50], skorch_predict(net, X[25:50], n).mean, rtol=0, atol=1e-6)


@pytest.mark.heavy
def test_what_is_read_is_what_the_net_gives_where_nothing_drops() -> None:
    for kind in KINDS:
        net = fitted(kind)
        network = skorch_sampler(net).model.eval()
        with torch.no_grad():
            found = network(torch.from_numpy(X)).numpy()
        own = net.predict(X) if kind == "regression" else net.predict_proba(X)
        np.testing.assert_allclose(found, own, atol=1e-6)


class Columns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Module()

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.part(torch.cat((a, b, c, d), -1))
        return scores.softmax(-1), scores


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # skorch hands over what pandas lends
def test_inputs_are_all_that_skorch_takes() -> None:
    import pandas
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset

    net = fitted("cross-entropy")
    wanted = skorch_predict(net, X, 5).mean
    for same in (torch.from_numpy(X), Dataset(X), Dataset(X, LABELS)):
        torch.testing.assert_close(skorch_predict(net, same, 5).mean, wanted, rtol=0, atol=0)
    torch.testing.assert_close(caveat.predict(skorch_sampler(net), torch.from_numpy(X), 5).mean, wanted)

    frame = pandas.DataFrame(X, columns=list("abcd"))  # each column an argument, as in skorch
    columns = {name: X[:, at : at + 1] for at, name in enumerate("abcd")}
    net = NeuralNetClassifier(Columns, max_epochs=1, verbose=0, train_split=None)
    net.get_loss = lambda y_pred, y_true, *rest, **more: nn.functional.nll_loss(y_pred[0].log(), y_true)
    pred = skorch_predict(net.fit(columns, LABELS), columns, 50)
    assert pred.mean.shape == (60, 3)
    assert torch.equal(skorch_predict(net, frame, 50).mean, pred.mean)
    np.testing.assert_allclose(pred.mean, net.predict_proba(frame), atol=0.2)


@pytest.mark.heavy
def test_a_likelihood_of_ones_own_is_said() -> None:
    from skorch import NeuralNet, NeuralNetRegressor

    class Likelihood(nn.Module):
        def forward(self, y: Tensor, target: Tensor) -> Tensor:
            return ((y[:, :1] - target) ** 2 * (-y[:, 1:]).exp() + y[:, 1:]).mean()

    net = NeuralNetRegressor(Module, module__outputs=2, criterion=Likelihood, max_epochs=1, verbose=0, train_split=None)
    net.fit(X, X[:, :1])
    with pytest.raises(InvalidArgumentError, match="NeuralNetRegressor with the criterion Likelihood"):
        skorch_predict(net, X)
    pred = skorch_predict(net, X, 20, output=caveat.MeanAndLogVariance())
    assert (pred.variance > pred.epistemic_variance).all()
    plain = NeuralNet(Module, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None).fit(X, LABELS)
    with pytest.raises(InvalidArgumentError, match="NeuralNet with the criterion CrossEntropyLoss"):
        skorch_predict(plain, X)
    assert skorch_predict(plain, X, 5, output=caveat.Logits()).mean.shape == (60, 3)


@pytest.mark.heavy
def test_more_settings_go_along() -> None:
    net = fitted("cross-entropy")
    assert skorch_predict(net, X, "auto", live=caveat.paths("hidden.3")).count.min() >= 32
    with pytest.raises(NothingRandomError):
        skorch_predict(net, X, live=caveat.paths("last"))


@pytest.mark.heavy
def test_nets_that_cannot_be_drawn_from_are_refused() -> None:
    from sklearn.pipeline import make_pipeline
    from skorch import NeuralNetClassifier

    with pytest.raises(NothingRandomError):
        skorch_predict(fitted("cross-entropy", module__rate=0.0), X)
    with pytest.raises(InvalidArgumentError, match="must be fitted"):
        skorch_predict(NeuralNetClassifier(Module), X)
    with pytest.raises(InvalidArgumentError, match=r"Got: Pipeline[^$]*pipeline\[-1\]"):
        skorch_predict(make_pipeline(fitted("cross-entropy")), X)
    logits = fitted("likelihood of probabilities")
    logits.module_.end = nn.Identity()  # a classifier whose module gives scores where the net expects probabilities
    with pytest.raises(NotProbabilitiesError):
        skorch_predict(logits, X)


def test_a_missing_skorch_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skorch", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[skorch\]"'):
        skorch_predict(object(), X)


@pytest.mark.heavy
def test_an_old_skorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skorch.__version__", "0.15.0")
    with pytest.raises(MissingExtraError, match=r"skorch 1.0 or newer[^$]*0\.15\.0"):
        skorch_predict(object(), X)
