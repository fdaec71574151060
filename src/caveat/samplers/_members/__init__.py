"""Evaluating given networks: one as in eval mode, or several of one architecture together.

Private to the samplers: ``as_eval`` runs one network, ``watch`` notices that networks were changed, ``stack`` holds the
tensors of several and records what they compute together, ``choice`` is the rule on sizes, and ``prepare`` finds out
which way they run on inputs of one kind.
"""

__all__: list[str] = []
