"""The conformance suite: what every attention variant has to hold, for its author to check."""

from attnframe.testing.suite import CHECKS, SLOW_CHECKS, attnframe_contract, check_variant
from attnframe.testing.verdicts import Check, Outcome, Verdict

__all__ = ["CHECKS", "SLOW_CHECKS", "Check", "Outcome", "Verdict", "attnframe_contract", "check_variant"]
