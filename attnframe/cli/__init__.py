"""The command line. Each command is a file of its own here and is imported when it is called."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
import warnings
from typing import Any

from attnframe.cli.standard_output import to_output
from attnframe.discovery import PluginWarning
from attnframe.errors import UserError, VariantFailed, did_you_mean

COMMANDS = {
    "new": "the file of a variant of your own, which runs as it is",
    "train": "train a model and score it; with -m a sweep",
    "eval": "score a finished run again: other data, another search",
    "translate": "translate sentences with a finished run",
    "explain": "what attention does to one sentence, with its numbers",
    "ablate": "what each head is good for: the scores without it",
    "view": "the page to look around in a run's patterns, or those of two runs",
    "compare": "variants side by side: scores with intervals, differences, curves",
    "describe": "parameters, FLOPs and cache, per head, layer and model",
    "check": "does a variant keep the contract? Masks, gradients, decoding, patterns, ...",
    "list": "what can be chosen: variants, backends, models, data, ...",
    "backends": "which backend can run which variant here, and why not",
    "bench": "time, TFLOP/s and memory of variants and backends, and how they grow with the length",
}

# The environment variable that asks for tracebacks.
_TRACEBACK = "ATTNFRAME_TRACEBACK"

USAGE = """attnframe COMMAND [arguments]      from an attention idea to an honest answer

{commands}

attnframe COMMAND -h shows what a command takes, with examples.
The first run:  attnframe train
One change:     attnframe train attention=low_rank_v attention.rank=4
Your own idea:  attnframe new my_idea
"""


def main() -> None:
    """The console script `attnframe`."""
    _wait_patiently()
    sys.exit(to_output("attnframe", lambda: _dispatch(sys.argv[1:])))


def main_train() -> None:
    """The console script `attnframe-train`: `attnframe train`, as a script of its own so that shells can complete."""
    _wait_patiently()
    sys.exit(to_output("attnframe-train", lambda: _guarded("train", sys.argv[1:])))


def _wait_patiently() -> None:
    """Let torch's threads wait for one another without burning the core that another process needs.

    Must come before torch is imported; docs/decisions/006-threads-that-wait.md has the figures.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(USAGE.format(commands="\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from attnframe import __version__

        print(f"attnframe {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"attnframe: there is no command {command!r}: {did_you_mean(command, COMMANDS)}", file=sys.stderr)
        return 2
    return _guarded(command, rest)


def _guarded(command: str, arguments: list[str]) -> int:
    """Run a command; what the user can mend becomes one sentence and exit code 2, a variant that raises one and 1."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    # A log that cannot be written, as on a full disk, is no reason for tracebacks between the sentences.
    logging.raiseExceptions = False
    try:
        status: int = importlib.import_module(f"attnframe.cli.{command}").main(arguments)
        return status
    except UserError as error:
        _show_traceback(error)
        return _refuse(command, str(error))
    except VariantFailed as error:
        hint = "" if _show_traceback(error) else f"; {_TRACEBACK}=1 shows the traceback"
        print(f"attnframe {command}: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"attnframe {command}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _refuse(command: str, sentence: str) -> int:
    print(f"attnframe {command}: {sentence}", file=sys.stderr)
    return 2


def _show_traceback(error: Exception) -> bool:
    """Print where `error` and what caused it was raised, if that was asked for; whether it was."""
    asked = os.environ.get(_TRACEBACK, "") not in ("", "0")
    if asked:
        traceback.print_exception(error)
    return asked


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    if issubclass(category, PluginWarning):
        print(f"attnframe: {message}", file=sys.stderr)
