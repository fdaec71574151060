"""Drawing fast: executors, chunks, adaptive stopping, and the verbs."""

from caveat.engine.predict import draws, predict, predict_batches
from caveat.engine.sampler import Sampler, Stream, Values

__all__ = ["Sampler", "Stream", "Values", "draws", "predict", "predict_batches"]
