"""The doctor: a network and a recipe for drawing from it, examined by running them."""

from caveat._doctor._diagnosis import Comparison, Diagnosis, ExaminedSite, Fault, Way, format_fires
from caveat._doctor._doctor import doctor

__all__ = ["Comparison", "Diagnosis", "ExaminedSite", "Fault", "Way", "doctor", "format_fires"]
