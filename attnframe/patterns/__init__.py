"""What attention looked at: recorded, measured against gold alignments, and drawn."""

from attnframe.patterns.recording import Pattern, PatternError, Patterns, record_patterns

__all__ = ["Pattern", "PatternError", "Patterns", "record_patterns"]
