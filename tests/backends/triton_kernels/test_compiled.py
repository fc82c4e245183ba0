"""Every kernel with every tiling of the table, compiled for a GPU that need not be there."""

from __future__ import annotations

import pytest
import torch
from compiling import EVERYTHING, MODIFIED, NOTHING, compiled

from attnframe.backends.triton import tilings

# Shared memory that a block may use, in bytes: compute capability 9.0, and the least of those from 8.0 on.
# https://docs.nvidia.com/cuda/cuda-c-programming-guide/, section Compute Capabilities.
SHARED_MEMORY = {90: 227 * 1024, 80: 99 * 1024}
ENTRIES = [
    (architecture, dtype, width, kernel)
    for architecture, dtypes in tilings.table().items()
    for dtype, widths in dtypes.items()
    for width, kernels in widths.items()
    for kernel in kernels
    if not kernel.endswith(", modified")
]


def check(
    architecture: str, dtype: str, width: int, kernel: str, masks: dict[str, bool], described: bool = True
) -> None:
    result = compiled(architecture, dtype, width, kernel, masks, described)
    assert result.registers <= 255
    assert result.spilled_bytes == result.count("STL") == result.count("LDL") == 0
    assert 0 < result.shared_bytes <= SHARED_MEMORY[90 if architecture == "sm_90" else 80]
    if dtype == "float32":
        assert result.count("FFMA") > 0
        # Not in tf32.
        assert result.count("HGMMA") == result.count("HMMA") == 0
    else:
        assert result.count("HGMMA" if architecture == "sm_90" else "HMMA") > 0


def test_one_compiles_for_hopper_and_copies_tiles_whole() -> None:
    check("sm_90", "bfloat16", 64, "forward", NOTHING)
    assert compiled("sm_90", "bfloat16", 64, "forward", NOTHING).count("UTMALDG") > 0
    assert compiled("sm_90", "bfloat16", 64, "forward", NOTHING, described=False).count("UTMALDG") == 0


DESCRIBED = [e for e in ENTRIES if "DESCRIPTORS" in tilings.entry(e[3], e[0], getattr(torch, e[1]), int(e[2]))]


def test_on_hopper_the_tensor_cores_are_fed_through_descriptors() -> None:
    assert {(architecture, kernel) for architecture, _, _, kernel in DESCRIBED} == {
        *(("sm_90", "forward"), ("sm_90", "backward_queries"), ("sm_90", "backward_keys"))
    }


# Where the strides of a tensor are such that it cannot be described.
@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "dtype", "width", "kernel"), [e for e in DESCRIBED if e[1] != "float16"])
@pytest.mark.parametrize("masks", [EVERYTHING, MODIFIED], ids=["masks", "masks and biases"])
def test_nor_by_pointers(architecture: str, dtype: str, width: str, kernel: str, masks: dict[str, bool]) -> None:
    check(architecture, dtype, int(width), kernel, masks, described=False)


@pytest.mark.parametrize(
    ("shape", "permuted", "dtype", "expected"),
    [
        ((2, 3, 7, 64), (0, 1, 2, 3), torch.bfloat16, True),
        ((2, 7, 3, 64), (0, 2, 1, 3), torch.bfloat16, True),
        ((2, 3, 7, 8), (0, 1, 2, 3), torch.float16, True),
        ((2, 3, 7, 12), (0, 1, 2, 3), torch.float16, False),
        ((2, 3, 7, 12), (0, 1, 2, 3), torch.float32, True),
        ((2, 3, 0, 64), (0, 1, 2, 3), torch.bfloat16, False),
    ],
)
def test_what_can_be_described(
    shape: tuple[int, ...], permuted: tuple[int, ...], dtype: torch.dtype, expected: bool
) -> None:
    from attnframe.backends.triton.descriptors import describable

    x = torch.zeros(shape, dtype=dtype).permute(permuted)
    assert describable(x) == expected


def test_what_begins_in_between_or_repeats_a_row_cannot() -> None:
    from attnframe.backends.triton.descriptors import describable

    x = torch.zeros(2, 3, 7, 64, dtype=torch.bfloat16)
    assert describable(x[..., 8:40])
    assert not describable(x[..., 4:40])
    assert not describable(x[:, :, :1].expand(2, 3, 7, 64))
    assert describable(x, by_head=True)
    assert describable(x[:, :1].expand(2, 3, 7, 64))
    assert not describable(x[:, :1].expand(2, 3, 7, 64), by_head=True)
    assert describable(x[:1].expand(2, 3, 7, 64))


def test_what_cannot_be_described_gets_a_tiling_for_pointers() -> None:
    by_table = tilings.entry("backward_keys", "sm_90", torch.bfloat16, 128)
    by_pointers = tilings.entry("backward_keys", "sm_90", torch.bfloat16, 128, described=False)
    assert by_table["DESCRIPTORS"]
    assert "DESCRIPTORS" not in by_pointers
    assert by_pointers == tilings.entry("backward_keys", "any", torch.bfloat16, 128)
    calls = {"modified": True, "described": False}
    assert tilings.entry("forward", "sm_90", torch.float32, 128, **calls) == tilings.entry(
        "forward", "sm_90", torch.float32, 128
    )


def test_scores_with_biases_get_smaller_tiles_where_the_table_says_so() -> None:
    plain = tilings.entry("forward", "sm_90", torch.float16, 128)
    modified = tilings.entry("forward", "sm_90", torch.float16, 128, modified=True)
    assert (plain["TILE_K"], modified["TILE_K"]) == (128, 64)
    assert tilings.entry("backward_keys", "sm_90", torch.float16, 128, modified=True) == tilings.entry(
        "backward_keys", "sm_90", torch.float16, 128
    )


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "dtype", "width", "kernel"), ENTRIES)
def test_no_tiling_spills_and_all_use_the_tensor_cores(architecture: str, dtype: str, width: str, kernel: str) -> None:
    check(architecture, dtype, int(width), kernel, EVERYTHING)


# What they lack cannot spill; that the rest does not, for one dtype.
@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "dtype", "width", "kernel"), [e for e in ENTRIES if e[:2] == ENTRIES[0][:2]])
def test_nor_without_masks_and_statistics(architecture: str, dtype: str, width: str, kernel: str) -> None:
    check(architecture, dtype, int(width), kernel, NOTHING)


# Of the two narrow types, which have the same tilings, one will do.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "dtype", "width", "kernel"),
    [e for e in ENTRIES if e[1] != "float16" and not e[3].startswith("reduce")],
)
def test_nor_with_softcap_and_biases(architecture: str, dtype: str, width: str, kernel: str) -> None:
    check(architecture, dtype, int(width), kernel, MODIFIED)


@pytest.mark.slow
def test_a_check_of_spills_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"sm_90": {"bfloat16": {"128": {"backward_keys": [64, 64, 4, 2]}}}}
    monkeypatch.setattr(tilings, "table", lambda: table)
    result = compiled("sm_90", "bfloat16", 128, "backward_keys", EVERYTHING)
    assert result.spilled_bytes > 0
    assert result.count("STL") > 0


def test_every_head_width_has_a_tiling() -> None:
    for architecture in tilings.table():
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for kernel in ("forward", "backward_queries", "backward_keys", "reduce_rows", "reduce_keys"):
                assert tilings.entry(kernel, architecture, dtype, tilings.WIDEST)["TILE_Q"] >= 16
                with pytest.raises(ValueError, match=f"up to {tilings.WIDEST}, this one is {tilings.WIDEST + 1}"):
                    tilings.entry(kernel, architecture, dtype, tilings.WIDEST + 1)
    assert tilings.entry("forward", "sm_999", torch.float16, 64) == tilings.entry("forward", "any", torch.float16, 64)


@pytest.mark.parametrize(
    ("version", "begun"),
    [("3.5.1", "3.6"), ("3.6.0", "3.6"), ("3.9.9", "3.6"), ("3.10.0+git1", "3.10"), ("4.0", "3.10")],
)
def test_each_version_of_triton_has_a_table(version: str, begun: str) -> None:
    assert tilings._of_version({"3.10": "3.10", "3.6": "3.6"}, version) == begun
