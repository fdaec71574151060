"""Drawing fast: executors, chunks, adaptive stopping, and the verbs."""

from caveat._engine._bound import BoundNetwork, out_of_memory
from caveat._engine._collect import gathered, summarized
from caveat._engine._executors import Task, record, replay, vectorized
from caveat._engine._loaded import check_fits, inputs_of, rows_of_loader
from caveat._engine._memory import CACHE_BYTES, allowed_bytes, is_out_of_memory
from caveat._engine._misuse import check_sampler_passed
from caveat._engine._one_by_one import OneByOne, fitting, one_by_one, stacked
from caveat._engine._plan import BACKENDS, Backend, Plan, make_plan
from caveat._engine._predict import check_draws, draws, predict, predict_batches
from caveat._engine._program import CannotRecordError, Program
from caveat._engine._recorder import Recorder, Unread
from caveat._engine._rewrites import shorten
from caveat._engine._sampler import P, P_co, Sampler, Stream, Values, as_output
from caveat._engine._tape import Tape
from caveat._engine._values import join_rows, split_rows

__all__ = [
    "BACKENDS",
    "CACHE_BYTES",
    "Backend",
    "BoundNetwork",
    "CannotRecordError",
    "OneByOne",
    "P",
    "P_co",
    "Plan",
    "Program",
    "Recorder",
    "Sampler",
    "Stream",
    "Tape",
    "Task",
    "Unread",
    "Values",
    "allowed_bytes",
    "as_output",
    "check_draws",
    "check_fits",
    "check_sampler_passed",
    "draws",
    "fitting",
    "gathered",
    "inputs_of",
    "is_out_of_memory",
    "join_rows",
    "make_plan",
    "one_by_one",
    "out_of_memory",
    "predict",
    "predict_batches",
    "record",
    "replay",
    "rows_of_loader",
    "shorten",
    "split_rows",
    "stacked",
    "summarized",
    "vectorized",
]
