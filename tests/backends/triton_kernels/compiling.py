"""Kernels compiled for a GPU that need not be there, and what their binaries say of themselves."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from attnframe.backends.triton import tilings

TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
STRIDES = ("_batch", "_head", "_row")
ROWS = ("lse", "peak", "log_sum", "entropy", "shift", "delta", "d_lse", "d_entropy", "slopes", "key_bias", "d_key_bias")
OPTIONAL = ("softcap", "slopes", "key_bias", "d_key_bias")
POINTERS = {
    "key_keep": "*u8",
    **dict.fromkeys((*ROWS, "query_position", "key_position", "mean_position", "mean_distance"), "*fp32"),
    **dict.fromkeys(("received", "tile_mass", "bucket_mass"), "*fp32"),
    **dict.fromkeys(("argmax", "edges"), "*i32"),
}

CHOICES = ("CAUSAL", "WINDOW", "KEY_KEEP", "STATISTICS", "ENTROPY", "POOLED", "PROFILE")
EVERYTHING = dict.fromkeys(CHOICES, True) | {"MODIFIED": False}
NOTHING = dict.fromkeys(EVERYTHING, False)
MODIFIED = EVERYTHING | {"MODIFIED": True}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the binary of a kernel says of itself."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: str

    def count(self, instruction: str) -> int:
        return len(re.findall(rf"\b{instruction}\b", self.instructions))


def compiled(
    architecture: str, dtype: str, width: int, kernel: str, masks: dict[str, bool], described: bool = True
) -> Compiled:
    """The kernel as it is launched on tensors whose strides are multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from attnframe.backends.triton import operators, reductions
    from attnframe.backends.triton.launching import launch_options

    function = {**operators.KERNELS, **reductions.KERNELS}[kernel]
    calls = {"modified": masks["MODIFIED"], "described": described}
    how = tilings.entry(kernel, architecture, getattr(torch, dtype), width, **calls)
    options = {name: how.pop(name) for name in ("num_warps", "num_stages")}
    constants: dict[str, Any] = {
        **{"HEAD_DIM": width, "VALUE_DIM": width, "PADDED_HEAD_DIM": width, "PADDED_VALUE_DIM": width},
        **{"EXACT": dtype == "float32", "WIDEN": False, "PADDED_BUCKETS": 32, "DESCRIPTORS": False},
        **how,
        **masks,
    }
    signature, values, attributes = {}, {}, {}
    if not constants["MODIFIED"]:
        constants |= dict.fromkeys(OPTIONAL)
    for place, name in enumerate(function.arg_names):
        if name in constants:
            signature[name], values[(place,)] = "constexpr", constants[name]
            continue
        if name in POINTERS:
            signature[name] = POINTERS[name]
        elif name in ("scale", "softcap"):
            signature[name] = "fp32"
        else:
            is_size = name.endswith(STRIDES) or function.params[place].do_not_specialize
            signature[name] = "i32" if is_size else f"*{TYPES[dtype]}"
        if signature[name].startswith("*") or name.endswith(STRIDES):
            attributes[(place,)] = [["tt.divisibility", 16]]
    capability = 90 if architecture == "sm_90" else 80
    source = ASTSource(function, signature, values, attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={**options, **launch_options()})
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage, sass = (
            subprocess.run([tools / tool[0], *tool[1:], file.name], capture_output=True, text=True, check=True).stdout
            for tool in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found, usage
    return Compiled(int(found[1]), int(found[2]) + int(found[3]), binary.metadata.shared, sass)
