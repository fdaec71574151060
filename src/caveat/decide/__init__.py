"""What to do with a prediction: cuts that keep a promise, policies, tiers, and a ledger of what was decided."""

from caveat.decide._bounds import risk_upper_bound
from caveat.decide._cost import cut_for_cost, expected_costs
from caveat.decide._coverage import cut_for_coverage
from caveat.decide._cut import Cut, NoCut
from caveat.decide._decision import Decision
from caveat.decide._file_lock import LedgerBusy, LedgerGone
from caveat.decide._ledger import Ledger, LedgerCut, LedgerDamaged, read_ledger
from caveat.decide._policies import abstain, cheapest_action, refer
from caveat.decide._risk import cut_for_risk
from caveat.decide._tiers import Tier, decide_in_tiers
from caveat.decide._unsureness import unsureness

__all__ = [
    "Cut",
    "Decision",
    "Ledger",
    "LedgerBusy",
    "LedgerCut",
    "LedgerDamaged",
    "LedgerGone",
    "NoCut",
    "Tier",
    "abstain",
    "cheapest_action",
    "cut_for_cost",
    "cut_for_coverage",
    "cut_for_risk",
    "decide_in_tiers",
    "expected_costs",
    "read_ledger",
    "refer",
    "risk_upper_bound",
    "unsureness",
]
