"""The classifiers that experiments share: each kind has what it is named for, and images come back as they were."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from caveat.layers import RandomFeatureGaussianProcess

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import classifiers

SIZES = {"mnist": (1, 28, 28), "cifar": (3, 32, 32)}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kind", classifiers.KINDS)
def test_a_kind_has_what_it_is_named_for(name: str, kind: str) -> None:
    with torch.random.fork_rng():
        network = classifiers.network(name, kind, 0.2)
    assert network(torch.zeros(2, *SIZES[name])).shape == (2, 10)
    dropping = [part for part in network.modules() if isinstance(part, nn.Dropout)]
    assert [part.p for part in dropping] == ([0.2, 0.2] if kind == "dropout" else [])
    heads = [part for part in network.modules() if isinstance(part, RandomFeatureGaussianProcess)]
    assert len(heads) == (kind == "sngp")


def test_no_image_that_a_network_sees_is_held_out() -> None:
    for problem in classifiers.PROBLEMS.values():
        assert set(problem.members) == set(classifiers.KINDS)
    if not classifiers.data.__globals__["DATA"].is_dir():
        pytest.skip("the experiments' data are not beside the repository")
    x, y = classifiers.held_out("mnist", smoke=True)
    whole, labels = classifiers.rows("mnist", "train")
    assert torch.equal(x, whole[10_000:10_200])
    assert torch.equal(y, labels[10_000:10_200])


def test_images_laid_end_to_end() -> None:
    files = []
    for level in (0, 128, 255):
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(file, "JPEG")
        files.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    found = classifiers.decoded(np.frombuffer(b"".join(files), np.uint8), offsets, side=4)
    assert found.shape == (3, 3, 4, 4)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.0, 128 / 255, 1.0]))
