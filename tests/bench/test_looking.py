from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import functional as F

from attnframe.bench.looking import kernel_names, kernels_of, peak_bytes, short_name

CPU = torch.device("cpu")


def test_the_peak_is_what_is_held_at_once() -> None:
    x = torch.ones(1000)

    def call() -> Tensor:
        first = x + 1  # 4000 bytes
        second = torch.cat([first, first])  # and 8000
        del first
        return second + second  # 8000 and 8000

    assert peak_bytes(call, CPU) == pytest.approx(16000, abs=500)


def test_what_is_there_before_does_not_count() -> None:
    x = torch.ones(1000, 100)
    assert peak_bytes(lambda: x.add_(1), CPU) < 1000


def test_a_scores_matrix_is_seen_and_a_fused_kernel_has_none() -> None:
    q = torch.randn(1, 2, 257, 8)
    matrix = 4 * 2 * 257 * 257
    assert peak_bytes(lambda: (q @ q.transpose(-2, -1)).softmax(-1) @ q, CPU) >= 2 * matrix
    assert peak_bytes(lambda: F.scaled_dot_product_attention(q, q, q), CPU) < matrix


def test_the_operator_that_ran_is_named() -> None:
    q = torch.randn(1, 2, 17, 8)
    fused, *_ = kernels_of(lambda: F.scaled_dot_product_attention(q, q, q), CPU)
    assert fused == "aten::_scaled_dot_product_flash_attention_for_cpu"
    in_steps = kernels_of(lambda: (q @ q.transpose(-2, -1)).softmax(-1) @ q, CPU)
    assert {"aten::bmm", "aten::_softmax"} <= set(in_steps)


def event(name: str, cpu: float, gpu: float, device: DeviceType) -> SimpleNamespace:
    return SimpleNamespace(key=name, self_cpu_time_total=cpu, self_device_time_total=gpu, device_type=device)


EVENTS = [
    event("aten::bmm", 9.0, 0.0, DeviceType.CPU),
    event("cudaLaunchKernel", 20.0, 0.0, DeviceType.CPU),
    event("aten::_scaled_dot_product_flash_attention", 3.0, 0.0, DeviceType.CPU),
    event("void elementwise_kernel<float>(int)", 0.0, 2.0, DeviceType.CUDA),
    event("flash_fwd_kernel", 0.0, 5.0, DeviceType.CUDA),
]


def test_on_a_gpu_kernels_are_named_and_on_a_cpu_operators() -> None:
    assert kernel_names(EVENTS, "cuda") == ("flash_fwd_kernel", "void elementwise_kernel<float>(int)")
    assert kernel_names(EVENTS, "cpu") == ("aten::_scaled_dot_product_flash_attention", "aten::bmm")


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("aten::bmm", "aten::bmm"),
        ("void pytorch_flash::flash_fwd_kernel<Traits<64, 128>, true, false>(Params)", "flash_fwd_kernel"),
        ("void at::native::(anonymous namespace)::softmax_warp_forward<float, 9>(float*, int)", "softmax_warp_forward"),
        (
            "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::Params)",
            "fmha_cutlassF_bf16_aligned_64x64_rf_sm80",
        ),
        ("## Call CompiledFxGraph fjtf3hzmnnorefiv7m3ccntgqlqyvzuakm ##", "CompiledFxGraph fjtf3hzm"),
        ("triton_tem_fused_0", "triton_tem_fused_0"),
    ],
)
def test_names_are_shortened(whole: str, short: str) -> None:
    assert short_name(whole) == short
