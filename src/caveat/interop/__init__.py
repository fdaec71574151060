"""Other libraries: their models as samplers, their predictions as predictives, caveat's samplers as their models."""

from caveat.interop import ray
from caveat.interop._botorch import botorch_model
from caveat.interop._fastai import fastai_predict
from caveat.interop._gpytorch import gaussian_process
from caveat.interop._hugging_face import (
    hugging_face_classifier,
    hugging_face_token_classifier,
)
from caveat.interop._hugging_face_generate import generate
from caveat.interop._hugging_face_trainer import hugging_face_calibration, predict_with_trainer
from caveat.interop._keras import keras_mc_dropout
from caveat.interop._laplace import laplace_posterior
from caveat.interop._lightning import lightning_predictive
from caveat.interop._lightning_calibration import lightning_calibration
from caveat.interop._mapie import mapie_estimator
from caveat.interop._onnx import export_onnx
from caveat.interop._skorch import skorch_predict, skorch_sampler
from caveat.interop._torchcp import torchcp_model
from caveat.interop._torchmetrics import torchmetrics_metric

__all__ = [
    "botorch_model",
    "export_onnx",
    "fastai_predict",
    "gaussian_process",
    "generate",
    "hugging_face_calibration",
    "hugging_face_classifier",
    "hugging_face_token_classifier",
    "keras_mc_dropout",
    "laplace_posterior",
    "lightning_calibration",
    "lightning_predictive",
    "mapie_estimator",
    "predict_with_trainer",
    "ray",
    "skorch_predict",
    "skorch_sampler",
    "torchcp_model",
    "torchmetrics_metric",
]
