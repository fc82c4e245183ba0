"""What attention looked at: recorded, measured against gold alignments, and drawn."""
