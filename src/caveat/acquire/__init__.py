"""What to ask next: scores, batches, a pool, active learning, and contextual bandits."""

from caveat.acquire._bandit import (
    BanditPolicy,
    epsilon_greedy,
    run_bandit,
    thompson,
    uniform,
    upper_confidence_bound,
)
from caveat.acquire._batchbald import batchbald
from caveat.acquire._batches import k_center, power_sample, softmax_sample, top_k
from caveat.acquire._dynamics import trajectories
from caveat.acquire._epig import epig
from caveat.acquire._exploration import ThompsonPolicy
from caveat.acquire._label_sources import csv_labels, folder_labels
from caveat.acquire._learners import warm_started
from caveat.acquire._learning import active_learning
from caveat.acquire._neural_linear import LinearPrior, linear_posterior, neural_linear
from caveat.acquire._picks import Pick, pick_at_random, pick_batchbald, pick_by
from caveat.acquire._pool import Pool
from caveat.acquire._queries import activeml_query, modal_query, predictive_of_estimator
from caveat.acquire._scores import SCORES, score_rows

__all__ = [
    "SCORES",
    "BanditPolicy",
    "LinearPrior",
    "Pick",
    "Pool",
    "ThompsonPolicy",
    "active_learning",
    "activeml_query",
    "batchbald",
    "csv_labels",
    "epig",
    "epsilon_greedy",
    "folder_labels",
    "k_center",
    "linear_posterior",
    "modal_query",
    "neural_linear",
    "pick_at_random",
    "pick_batchbald",
    "pick_by",
    "power_sample",
    "predictive_of_estimator",
    "run_bandit",
    "score_rows",
    "softmax_sample",
    "thompson",
    "top_k",
    "trajectories",
    "uniform",
    "upper_confidence_bound",
    "warm_started",
]
