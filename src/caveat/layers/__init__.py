"""Layers for networks that can say how unsure they are: dropout of every kind, heads, spectral bounds."""

from caveat.layers._concrete_dropout import ConcreteDropout
from caveat.layers._concrete_penalty import concrete_penalty
from caveat.layers._drop_block import DropBlock1d, DropBlock2d, DropBlock3d
from caveat.layers._embedding_dropout import EmbeddingDropout
from caveat.layers._gaussian_dropout import GaussianDropout
from caveat.layers._heads import LogitsAndLogVarianceHead, MeanAndLogVarianceHead
from caveat.layers._insertion import insert_dropout, remove_dropout
from caveat.layers._random_features import (
    RandomFeatureGaussianProcess,
    update_precision,
)
from caveat.layers._replacement import replace
from caveat.layers._spatial_dropout import SpatialDropout1d, SpatialDropout2d, SpatialDropout3d
from caveat.layers._spectral import ResidualBlock, spectral_normalized
from caveat.layers._variational_recurrent import VariationalGRU, VariationalLSTM
from caveat.layers._weight_dropout import WeightDropout

__all__ = [
    "ConcreteDropout",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "EmbeddingDropout",
    "GaussianDropout",
    "LogitsAndLogVarianceHead",
    "MeanAndLogVarianceHead",
    "RandomFeatureGaussianProcess",
    "ResidualBlock",
    "SpatialDropout1d",
    "SpatialDropout2d",
    "SpatialDropout3d",
    "VariationalGRU",
    "VariationalLSTM",
    "WeightDropout",
    "concrete_penalty",
    "insert_dropout",
    "remove_dropout",
    "replace",
    "spectral_normalized",
    "update_precision",
]
