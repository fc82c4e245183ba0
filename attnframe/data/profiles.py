"""How often the sentences of a set have what the grammar allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How often (probability, 0 to 1) a sentence has what its grammar allows at that point."""

    second_clause: float = 0.15
    coordination: float = 0.15
    adjective: float = 0.62
    second_adjective: float = 0.15
    noun_place: float = 0.1
    complement: float = 0.3
    adverb: float = 0.35
    past: float = 0.45
    negation: float = 0.43
    clitic: float = 0.45
    pronoun_subject: float = 0.4
    frames: tuple[float, float, float, float, float] = (0.52, 0.19, 0.13, 0.05, 0.11)
    """Weights of clauses with a verb of two places, of three places, of one place, of motion, and with "be"."""


ORDINARY = Profile()
COMPOSITION = Profile(
    second_clause=0.0, past=1.0, negation=1.0, clitic=1.0, pronoun_subject=0.3, frames=(0.8, 0.2, 0.0, 0.0, 0.0)
)
"""Every clause has negation, object clitic and past together."""
LONGER = Profile(
    second_clause=0.35, coordination=0.25, adjective=0.65, second_adjective=0.3, noun_place=0.3, complement=0.6
)
"""What makes a sentence long is more frequent; nothing occurs that ORDINARY lacks."""
