"""What is random in a network: sites, masks, the interception of a forward pass, the audit."""

from caveat.stochastic import (  # registers the handlers
    attention,
    deferred,
    dropout_sites,
    exported,
    layer_sites,
    noise,
    normalising,
    recurrent,
    variational_sites,
)
from caveat.stochastic.audit import Audit, AuditedSite, audit
from caveat.stochastic.sites import LivePredicate, all_dropout, dropout_modules, named, with_stochastic_depth

__all__ = [
    "Audit",
    "AuditedSite",
    "LivePredicate",
    "all_dropout",
    "audit",
    "dropout_modules",
    "named",
    "with_stochastic_depth",
]

del attention, deferred, dropout_sites, exported, layer_sites, noise, normalising, recurrent, variational_sites
