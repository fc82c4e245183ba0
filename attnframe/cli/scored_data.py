"""The data that a finished run is scored on: its own, or what the command line chooses in its place."""

from __future__ import annotations

from attnframe.cli.run_arguments import RunArguments
from attnframe.errors import UserError

_WHOLE = {"data.use": "test", "data.max_length": "null"}

_NO_PART = {
    **{
        f"data.{key}": "the tokenizers are those of the run"
        for key in ("tokenizer", "lowercase", "normalization", "min_count", "vocab_size")
    },
    "data.max_tokens": "nothing is trained; the size of a batch is max_tokens",
}


def with_whole_file(given: RunArguments) -> RunArguments:
    """A user's file is a test set as a whole, unless he says otherwise. Refuses settings that play no part here."""
    keys = {item.partition("=")[0].lstrip("+"): item.partition("=")[2] for item in given.overrides}
    for key in keys:
        if key in _NO_PART:
            raise UserError(f"{key}={keys[key]}: {_NO_PART[key]}; leave it out")
    if keys.get("data") != "parallel_file":
        return given
    whole = [f"{key}={value}" for key, value in _WHOLE.items() if key not in keys]
    return RunArguments(given.run, [*given.overrides, *whole], given.flags)
