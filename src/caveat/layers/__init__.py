"""Building blocks of networks that can say how unsure they are."""

from caveat.layers._concrete_dropout import ConcreteDropout, SpatialConcreteDropout
from caveat.layers._concrete_penalty import concrete_penalty
from caveat.layers._drop_block import DropBlock1d, DropBlock2d, DropBlock3d, block_rate
from caveat.layers._embedding_dropout import EmbeddingDropout
from caveat.layers._gaussian_dropout import GaussianDropout
from caveat.layers._heads import LogitsAndLogVarianceHead, MeanAndLogVarianceHead
from caveat.layers._insertion import insert_dropout, instances_of, remove_dropout
from caveat.layers._random_features import (
    RandomFeatureGaussianProcess,
    gaussian_curvature,
    logistic_curvature,
    softmax_curvature,
    update_precision,
)
from caveat.layers._replacement import replace
from caveat.layers._spatial_dropout import SpatialDropout1d, SpatialDropout2d, SpatialDropout3d
from caveat.layers._spectral import ResidualBlock, SpectralBound, spectral_normalized
from caveat.layers._variational_recurrent import VariationalGRU, VariationalLSTM
from caveat.layers._weight_dropout import DropConnect, WeightDropout

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
    "spectral_normalized",
    "update_precision",
]
