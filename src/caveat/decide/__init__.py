"""What to do with a prediction: thresholds that keep a promise, policies, tiers, and a ledger of what was decided."""

from caveat.decide._cost import threshold_for_cost
from caveat.decide._coverage import threshold_for_coverage
from caveat.decide._decision import Decision
from caveat.decide._ledger import Ledger
from caveat.decide._policies import abstain, cheapest_action, refer
from caveat.decide._risk import threshold_for_risk
from caveat.decide._threshold import Threshold
from caveat.decide._tiers import Tier, decide_in_tiers
from caveat.decide._uncertainty import uncertainty
from caveat.errors import LedgerError, NoThresholdError

__all__ = [
    "Decision",
    "Ledger",
    "LedgerError",
    "NoThresholdError",
    "Threshold",
    "Tier",
    "abstain",
    "cheapest_action",
    "decide_in_tiers",
    "refer",
    "threshold_for_cost",
    "threshold_for_coverage",
    "threshold_for_risk",
    "uncertainty",
]
