"""What attention keeps of the tokens that it has seen, so that decoding a token does not compute them again."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.attention.mask import Mask

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from attnframe.attention.base import Attention


class KeptTokens:
    """The tensors that one module keeps, each with the batch in its first axis and the tokens in its last but one."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tensor] = {}
        self._seen, self._length = 0, 0
        self._attend_calls = 0

    def begin(self, mask: Mask) -> None:
        """Before each forward: `mask` is bound, and so says how many tokens were seen and how many there are now."""
        self._seen, self._length = mask.key_offset, mask.shape[2]
        self._attend_calls = 0

    def extended(self, name: Hashable, new: Float[Tensor, "batch *rest new width"]) -> Tensor:
        """What is kept under `name` with `new` behind it, which is kept from now on."""
        kept = self._kept.get(name)
        if kept is not None and self._seen:
            # A site whose tokens are all there from the start gets no new ones later.
            new = torch.cat([kept, new], dim=-2) if new.shape[-2] else kept
        self._kept[name] = new
        return new

    def completed(
        self, k: Float[Tensor, "batch key_heads new head_dim"], v: Float[Tensor, "batch key_heads new value_dim"]
    ) -> tuple[Tensor, Tensor]:
        """k and v of all tokens. Each `attend` call of a forward has its own, found again by the order of the calls."""
        call = self._attend_calls
        self._attend_calls += 1
        return self._completed(("k", call), k), self._completed(("v", call), v)

    def _completed(self, name: Hashable, new: Tensor) -> Tensor:
        if self._seen and new.shape[-2] == self._length:
            # The variant has made it whole from what it keeps itself.
            self._kept.pop(name, None)
            return new
        return self.extended(name, new)

    @property
    def length(self) -> int:
        """Tokens of this forward, the earlier ones included."""
        return self._length

    @property
    def elements(self) -> int:
        """How many numbers are kept."""
        return sum(tensor.numel() for tensor in self._kept.values())

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Make row i of the batch what row ``rows[i]`` was."""
        self._kept = {name: tensor.index_select(0, rows) for name, tensor in self._kept.items()}


class KeyValueCache:
    """What the modules of a decoder keep of one batch while its targets grow.

    `growing` modules attend to the target, of which each step brings new tokens; `fixed` ones to the source, of which
    the first step brings all. While the cache is `attached`, each module is called with the new tokens alone, under a
    mask that is bound to the length of all and whose `key_offset` says how many it has seen.
    """

    def __init__(self, growing: Iterable[Attention], fixed: Iterable[Attention] = ()) -> None:
        self.length = 0
        """Target tokens seen so far; who calls the modules counts them."""
        self._growing = {module: KeptTokens() for module in growing}
        self._fixed = {module: KeptTokens() for module in fixed}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Within this context every module keeps and extends what this cache holds for it."""
        with contextlib.ExitStack() as stack:
            for module, kept in (*self._growing.items(), *self._fixed.items()):
                stack.enter_context(module.keeping(kept))
            yield

    @property
    def elements(self) -> int:
        """How many numbers all modules keep."""
        return sum(kept.elements for kept in (*self._growing.values(), *self._fixed.values()))

    def select(self, rows: Int[Tensor, " rows"], *, same_sources: bool = False) -> None:
        """Make row i of the batch what row ``rows[i]`` was.

        `same_sources` says that every row keeps its source, so that what is kept of the sources need not be moved.
        """
        for kept in (*self._growing.values(), *(() if same_sources else self._fixed.values())):
            kept.select(rows)
