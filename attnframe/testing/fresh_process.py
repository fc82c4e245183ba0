"""Run as ``python -m attnframe.testing.fresh_process``: find a variant, unpickle a module of it, and run that."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import torch

from attnframe import discovery, registry


def main() -> None:
    """Reads a pickled request from standard input and writes the pickled output to standard output."""
    request = pickle.load(sys.stdin.buffer)
    importlib.import_module("attnframe.attention")
    if request["module"].startswith(f"{discovery.MODULE_PREFIX}."):
        discovery.load_plugin_file(Path(request["file"]))
    elif request["name"] not in registry.variants():
        importlib.import_module(request["module"])
    discovery.find_variant(request["name"])
    module = pickle.loads(request["pickled"])
    with torch.no_grad():
        output = module(*request["inputs"])
    sys.stdout.buffer.write(pickle.dumps(output))


if __name__ == "__main__":
    main()
