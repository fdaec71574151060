"""Recurrent layers run step by step, with dropout between layers, on inputs and on hidden states."""

from caveat._recurrence._recurrence import (
    MaskPlace,
    Stack,
    call_torch,
    mask_places,
    run_stack,
    torch_arguments,
    variational_recurrence,
)

__all__ = [
    "MaskPlace",
    "Stack",
    "call_torch",
    "mask_places",
    "run_stack",
    "torch_arguments",
    "variational_recurrence",
]
