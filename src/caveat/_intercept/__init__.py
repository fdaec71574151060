"""What is random in a network: sites, masks, the interception of a forward pass, the audit."""

from caveat._dropping import drop
from caveat._intercept import (  # registers the handlers
    _attention,
    _deferred,
    _dropout_sites,
    _eval_functions,
    _exported,
    _memory_format,
    _noise,
    _pending,
    _pooling,
    _recurrent,
    _variational_sites,
)
from caveat._intercept._anew import checkpointing_followed, running_mode
from caveat._intercept._audit import Audit, AuditedSite, audit, audit_of, warn_not_intercepted, warn_not_separated
from caveat._intercept._batch_axes import last_row, stirred, two_rows
from caveat._intercept._bindings import Bindings, attributes_kept, runs_hooks, state_kept
from caveat._intercept._caught_warnings import warnings_caught
from caveat._intercept._draw_axis import as_draws, draws_of, has_draws, over_draws, with_draws_first
from caveat._intercept._guard import (
    DispatchMode,
    FunctionMode,
    interruptible,
    put_back,
    random_states_kept,
    seeded,
    transforms,
)
from caveat._intercept._hidden import drops_branches, find_hidden
from caveat._intercept._interception import HANDLERS, Pass
from caveat._intercept._known import Known
from caveat._intercept._layout import Layout, agree, close
from caveat._intercept._looks import ProbePass
from caveat._intercept._masks import (
    FIRST_32,
    SECOND_32,
    Make,
    MaskSource,
    Shape,
    normal_from_uniform,
    random_bits,
    threshold,
    uniform_from_bits,
    words_along,
)
from caveat._intercept._mutation import substituted_anywhere
from caveat._intercept._network import Network, device_of
from caveat._intercept._own_draws import OwnDraws, argument, draws_random_numbers, rate_of
from caveat._intercept._patching import flags_kept, following, patched, run_plainly
from caveat._intercept._places import Places
from caveat._intercept._pooling import MAX_POOLS, each_axis, is_worth_maxima, max_of_windows, windows_of
from caveat._intercept._possible import check_initialized, nothing_random, why_silent
from caveat._intercept._prefix import Diverged, Prefix, Unplaced
from caveat._intercept._probe import Probe, probe_network
from caveat._intercept._random_functions import RANDOM_FUNCTIONS
from caveat._intercept._random_states import devices_of, in_turn, read_random_states, seed_all
from caveat._intercept._reads import ReadKey
from caveat._intercept._rules import Drawing, Observation, Observations, Rules
from caveat._intercept._sites import (
    DROPOUT_CLASSES,
    LivePredicate,
    SiteKey,
    all_dropout,
    dropout_modules,
    paths,
    with_stochastic_depth,
)
from caveat._intercept._sliced import sides_to_slice
from caveat._intercept._streams import Streams, place_of, same_in_every_pass
from caveat._intercept._writes import mutates

__all__ = [
    "DROPOUT_CLASSES",
    "FIRST_32",
    "HANDLERS",
    "MAX_POOLS",
    "RANDOM_FUNCTIONS",
    "SECOND_32",
    "Audit",
    "AuditedSite",
    "Bindings",
    "DispatchMode",
    "Diverged",
    "Drawing",
    "FunctionMode",
    "Known",
    "Layout",
    "LivePredicate",
    "Make",
    "MaskSource",
    "Network",
    "Observation",
    "Observations",
    "OwnDraws",
    "Pass",
    "Places",
    "Prefix",
    "Probe",
    "ProbePass",
    "ReadKey",
    "Rules",
    "Shape",
    "SiteKey",
    "Streams",
    "Unplaced",
    "agree",
    "all_dropout",
    "argument",
    "as_draws",
    "attributes_kept",
    "audit",
    "audit_of",
    "check_initialized",
    "checkpointing_followed",
    "close",
    "device_of",
    "devices_of",
    "draws_of",
    "draws_random_numbers",
    "drop",
    "dropout_modules",
    "drops_branches",
    "each_axis",
    "find_hidden",
    "flags_kept",
    "following",
    "has_draws",
    "in_turn",
    "interruptible",
    "is_worth_maxima",
    "last_row",
    "max_of_windows",
    "mutates",
    "normal_from_uniform",
    "nothing_random",
    "over_draws",
    "patched",
    "paths",
    "place_of",
    "probe_network",
    "put_back",
    "random_bits",
    "random_states_kept",
    "rate_of",
    "read_random_states",
    "run_plainly",
    "running_mode",
    "runs_hooks",
    "same_in_every_pass",
    "seed_all",
    "seeded",
    "sides_to_slice",
    "state_kept",
    "stirred",
    "substituted_anywhere",
    "threshold",
    "transforms",
    "two_rows",
    "uniform_from_bits",
    "warn_not_intercepted",
    "warn_not_separated",
    "warnings_caught",
    "why_silent",
    "windows_of",
    "with_draws_first",
    "with_stochastic_depth",
    "words_along",
]

del _attention, _deferred, _dropout_sites, _eval_functions, _exported, _memory_format, _noise, _pending, _pooling
del _recurrent, _variational_sites
