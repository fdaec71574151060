"""Building blocks of networks that can say how unsure they are."""

from caveat.layers.concrete_dropout import ConcreteDropout, SpatialConcreteDropout
from caveat.layers.concrete_penalty import concrete_penalty
from caveat.layers.drop_block import DropBlock1d, DropBlock2d, DropBlock3d, block_rate
from caveat.layers.embedding_dropout import EmbeddingDropout
from caveat.layers.gaussian_dropout import GaussianDropout
from caveat.layers.heads import LogitsAndLogVarianceHead, MeanAndLogVarianceHead
from caveat.layers.insertion import insert_dropout, remove_dropout
from caveat.layers.predicates import instances_of
from caveat.layers.random_features import (
    RandomFeatureGaussianProcess,
    gaussian_curvature,
    logistic_curvature,
    softmax_curvature,
    update_precision,
)
from caveat.layers.replacement import replace
from caveat.layers.spatial_dropout import SpatialDropout1d, SpatialDropout2d, SpatialDropout3d
from caveat.layers.spectral import ResidualBlock, SpectralBound, spectral_normalised
from caveat.layers.variational_recurrent import VariationalGRU, VariationalLSTM
from caveat.layers.weight_dropout import DropConnect, WeightDropout

__all__ = [
    "ConcreteDropout",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropConnect",
    "EmbeddingDropout",
    "GaussianDropout",
    "LogitsAndLogVarianceHead",
    "MeanAndLogVarianceHead",
    "RandomFeatureGaussianProcess",
    "ResidualBlock",
    "SpatialConcreteDropout",
    "SpatialDropout1d",
    "SpatialDropout2d",
    "SpatialDropout3d",
    "SpectralBound",
    "VariationalGRU",
    "VariationalLSTM",
    "WeightDropout",
    "block_rate",
    "concrete_penalty",
    "gaussian_curvature",
    "insert_dropout",
    "instances_of",
    "logistic_curvature",
    "remove_dropout",
    "replace",
    "softmax_curvature",
    "spectral_normalised",
    "update_precision",
]
