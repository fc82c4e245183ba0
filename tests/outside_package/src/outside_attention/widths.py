"""What the variant takes from its own package."""


def width_of(rank: int) -> int:
    """Width of a head's queries and keys."""
    return 2 * rank + 1
