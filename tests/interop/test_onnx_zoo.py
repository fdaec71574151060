"""Every network of the zoo as an ONNX file: ONNX Runtime draws what Python draws, or the export says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import caveat
from caveat._inputs import as_inputs, structure_of
from caveat.errors import UnsupportedModelError

from ..zoo.architectures import ENTRIES
from ..zoo.entry import Entry
from .test_onnx import run

pytestmark = pytest.mark.survey
ONE_BATCH, ON_VALUES, IN_BFLOAT16 = "one batch size only", "depends on values", "bfloat16"
REFUSED = {
    "rnn_gru_packed": ON_VALUES,
    "rnn_lstm_packed": ON_VALUES,
    "graph_gcn_one_graph": ONE_BATCH,
    "tensor_branching_on_values": ONE_BATCH,
    "tensor_experts": ONE_BATCH,
}
WITHOUT_A_KERNEL = ("double_lenet",)
"""What ONNX has and ONNX Runtime does not compute: convolutions in float64."""
LIGHT = [entry for entry in ENTRIES if not entry.needs and entry.name not in WITHOUT_A_KERNEL]


@pytest.mark.parametrize("entry", LIGHT, ids=lambda entry: entry.name)
@pytest.mark.filterwarnings("ignore::caveat.errors.RowsNotSeparatedWarning")
def test_a_network_of_the_zoo_draws_in_onnx_runtime(entry: Entry, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    sampler = caveat.mc_dropout(
        entry.build(), output=caveat.Mean(select=entry.select), masks=entry.masks  # type: ignore[arg-type]
    )
    path = tmp_path / "model.onnx"
    reason = IN_BFLOAT16 if entry.name.startswith("bfloat16") else REFUSED.get(entry.name)
    if reason is not None:
        with pytest.raises(UnsupportedModelError, match=reason):
            caveat.export_onnx(sampler, entry.inputs(3), path, what="draws")
        return
    caveat.export_onnx(sampler, entry.inputs(3), path, what="draws")
    for rows in (1, 2, 5):
        x = entry.inputs(rows)
        tensors = structure_of(as_inputs(x, torch.device("cpu"))).leaves
        made = torch.from_numpy(run(path, tensors, 3, 5)["draws"])
        expected = caveat.draws(sampler, x, n=3, seed=5)
        scale = float(expected.nan_to_num().abs().max())
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5 * scale, equal_nan=True)
