"""Evaluating given networks: one as in eval mode, or several of one architecture together.

Private to the samplers: ``as_eval`` runs one network, ``watch`` notices that networks were changed, ``stack`` holds the
tensors of several, ``program`` records what they compute together, and ``choice`` decides by trial.
"""

__all__: list[str] = []
