"""All entries of the zoo, by family."""

from __future__ import annotations

from ..entry import Entry
from . import (
    attention,
    cnn,
    cnn_families,
    given_state,
    handwritten,
    huggingface,
    huggingface_senses,
    mlp,
    mlp_layouts,
    mlp_tensors,
    recurrent,
    sets_and_tables,
    transformers_of_torch,
    traps,
    traps_of_one_flag,
)

FAMILIES: dict[str, list[Entry]] = {
    module.__name__.rpartition(".")[2]: module.ENTRIES
    for module in (
        mlp,
        mlp_layouts,
        mlp_tensors,
        cnn,
        cnn_families,
        recurrent,
        attention,
        transformers_of_torch,
        handwritten,
        sets_and_tables,
        traps,
        traps_of_one_flag,
        given_state,
        huggingface,
        huggingface_senses,
    )
}

ENTRIES: list[Entry] = [entry for family in FAMILIES.values() for entry in family]
