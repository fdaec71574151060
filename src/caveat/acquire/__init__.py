"""What to ask next: scores, batches, a pool, active learning, and contextual bandits."""

from caveat.acquire._bandit import epsilon_greedy, run_bandit, thompson, upper_confidence_bound
from caveat.acquire._batchbald import batchbald
from caveat.acquire._batches import k_center, select
from caveat.acquire._dynamics import trajectories
from caveat.acquire._epig import epig
from caveat.acquire._exploration import ThompsonPolicy
from caveat.acquire._label_sources import csv_labels, folder_labels
from caveat.acquire._learners import warm_started
from caveat.acquire._learning import active_learning
from caveat.acquire._neural_linear import neural_linear
from caveat.acquire._picks import pick_by
from caveat.acquire._queries import activeml_query, modal_query
from caveat.acquire._scores import score_rows

__all__ = [
    "ThompsonPolicy",
    "active_learning",
    "activeml_query",
    "batchbald",
    "csv_labels",
    "epig",
    "epsilon_greedy",
    "folder_labels",
    "k_center",
    "modal_query",
    "neural_linear",
    "pick_by",
    "run_bandit",
    "score_rows",
    "select",
    "thompson",
    "trajectories",
    "upper_confidence_bound",
    "warm_started",
]
