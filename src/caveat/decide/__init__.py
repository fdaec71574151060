"""What to do with a prediction: cuts that keep a promise, policies, tiers, and a ledger of what was decided."""

from caveat.decide.bounds import risk_upper_bound
from caveat.decide.cost import cut_for_cost, expected_costs
from caveat.decide.coverage import cut_for_coverage
from caveat.decide.cut import Cut, NoCut
from caveat.decide.decision import Decision
from caveat.decide.file_lock import LedgerBusy, LedgerGone
from caveat.decide.ledger import Ledger, LedgerCut, LedgerDamaged, read_ledger
from caveat.decide.policies import abstain, cheapest_action, refer
from caveat.decide.risk import cut_for_risk
from caveat.decide.tiers import Tier, decide_in_tiers
from caveat.decide.unsureness import unsureness

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
