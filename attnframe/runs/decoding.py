"""How translations are searched for: the choice, and the limits that hold whichever is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from attnframe.errors import UserError, did_you_mean
from attnframe.model import Hypothesis, Seq2Seq, beam_search, check_search, greedy

NAMES = ("beam", "greedy")


@dataclass(frozen=True)
class Decoding:
    """A search by name with its options; "greedy" has none. Called, it gives the best hypotheses of each sentence.

    Raises `UserError` for an unknown name, for options that make no search, and when called for more hypotheses than
    there are beams.
    """

    name: str = "greedy"
    beam_size: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"decoding.name={self.name}: {did_you_mean(self.name, NAMES)}")
        try:
            check_search(self.beam_size, 1, self.length_penalty)
        except UserError as error:
            raise UserError(f"decoding.{error}") from error

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Decoding:
        """The choice that a config makes under `decoding`. Raises `UserError` for an option that there is not."""
        known = [field.name for field in fields(cls)]
        for key in settings:
            if key not in known:
                raise UserError(f"decoding.{key}: decoding has no {key!r}: {did_you_mean(key, known)}")
        return cls(**settings)

    def described(self) -> dict[str, Any]:
        """The choice as results name it."""
        if self.name == "greedy":
            return {"decoding": self.name}
        return {
            "decoding": self.name,
            "decoding/beam_size": self.beam_size,
            "decoding/length_penalty": self.length_penalty,
        }

    def __call__(
        self,
        model: Seq2Seq,
        src: Int[Tensor, "batch source"],
        src_keep: Bool[Tensor, "batch source"],
        *,
        n_best: int = 1,
    ) -> list[list[Hypothesis]]:
        """For each sentence its `n_best` hypotheses, the best first.

        None is longer than twice its source and 10 tokens more: a limit for each sentence, so that its translation
        does not depend on the batch that it is in.
        """
        limits: list[int] = (2 * src_keep.sum(dim=1) + 10).tolist()
        if self.name == "greedy":
            if n_best != 1:
                raise UserError(f"decoding=greedy finds one translation: for n_best={n_best} take decoding=beam")
            return [[hypothesis] for hypothesis in greedy(model, src, src_keep, max_lengths=limits)]
        return beam_search(
            model,
            src,
            src_keep,
            beam_size=self.beam_size,
            length_penalty=self.length_penalty,
            n_best=n_best,
            max_lengths=limits,
        )


GREEDY = Decoding()
