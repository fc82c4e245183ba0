"""What each kind of pattern means, in a clause for tables and figures."""

from __future__ import annotations

from typing import Final

from attnframe.attention import PatternKind

KIND_MEANINGS: Final = {
    PatternKind.PROBABILITY: "probability: each row sums to 1, or to 0 where the query may attend to nothing",
    PatternKind.SIGNED: "signed: weights may be negative",
    PatternKind.UNNORMALISED: "unnormalised: weights are not negative, and each row has a mass of its own",
    PatternKind.IMPLICIT: "implicit: the module never forms such weights; these reproduce its output",
}
