"""Which stage of the tests a piece of code belongs to, told by the libraries that it imports."""

from __future__ import annotations

import re

import pytest

LIBRARIES = {
    "heavy": "lightning onnx onnxruntime peft playwright ray skorch torch_geometric transformers tritonclient",
    "frameworks": "fastai jax keras tensorflow timm torchvision",
}
"""For each stage that needs more than the development set, the libraries that put code there; the last stage wins."""


def find_stage(code: str) -> str:
    """Returns ``"fast"``, or the name of the stage (a marker of pytest's) whose libraries this code imports."""
    found = "fast"
    for stage, libraries in LIBRARIES.items():
        if re.search(rf"^\s*(?:import|from) (?:{libraries.replace(' ', '|')})\b", code, re.MULTILINE):
            found = stage
    return found


def marks_of(stage: str) -> list[pytest.MarkDecorator]:
    """Returns the marker of a stage; none for what needs only the development set."""
    return [] if stage == "fast" else [getattr(pytest.mark, stage)]


FOREIGN_WARNINGS = (
    "ignore:.*LeafSpec",
    "ignore:.*does not have many workers",
    "ignore:.*torch.jit.* is deprecated",
    "ignore::DeprecationWarning:ray",
    "ignore::FutureWarning:ray",
    "ignore::ResourceWarning",
    "ignore:::(pandas|fastai)",
)
"""Lightning calls torch by an old name, and asks for more workers than a small machine has; torch_geometric scripts
parts of itself; Ray reads settings of its own that it deprecates, and leaves sockets and logs to the end;
fastai sets an option that pandas is about to drop."""
