"""What attention looked at: recorded, measured against gold alignments, and drawn."""

from attnframe.patterns.pattern import Pattern, Patterns, missing_sentences
from attnframe.patterns.recording import PatternError, record_patterns

__all__ = ["Pattern", "PatternError", "Patterns", "missing_sentences", "record_patterns"]
