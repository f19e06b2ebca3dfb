"""The device: which one a job gets, and switches that are restored after use."""

import pytest
import torch

from fssplat.engine import device
from fssplat.engine.device import CPU

CUDA = torch.device("cuda")


def test_a_job_that_reserved_no_gpu_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [device.reserved_device(gpu).type for gpu in (0.0, 0.25, 1.0)] == ["cpu", "cuda", "cuda"]


def test_batches_are_pinned_for_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pins_batches(CUDA)
    assert not device.pins_batches(CPU)


def test_a_cpu_segments_few_large_images_at_once_and_a_gpu_as_many_as_asked() -> None:
    sizes = ((100, 100), (300, 300), (1000, 1000))
    assert [device.images_per_pass(CPU, 8, size) for size in sizes] == [8, 1, 1]
    assert [device.images_per_pass(CUDA, 8, size) for size in sizes] == [8, 8, 8]


@pytest.mark.parametrize("on", [True, False])
def test_determinism_is_restored_even_after_an_error(on: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    def fails() -> None:
        with device.deterministic(on):
            assert torch.are_deterministic_algorithms_enabled() is on
            assert torch.backends.cudnn.benchmark is not on
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    after = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    assert after == before


def test_bf16_multiplies_in_bf16_and_fp32_does_not() -> None:
    matrix = torch.ones(2, 2)
    with device.autocast(CPU, "bf16"):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with device.autocast(CPU, "fp32"):
        assert (matrix @ matrix).dtype == torch.float32


def test_a_cpu_has_a_peak_memory_and_no_gpu_model() -> None:
    device.reset_peak_memory(CPU)
    assert device.peak_memory(CPU) > 2**20
    assert device.model_and_memory(CPU) == ("cpu", 0)


def test_the_peak_memory_of_a_cpu_falls_with_a_reset() -> None:
    if not device.memory_in_use(CPU):
        pytest.skip("this system does not report the memory of a process")
    block = torch.ones(40_000_000)  # 160 MB
    high = device.peak_memory(CPU)
    del block
    device.return_memory()
    device.reset_peak_memory(CPU)
    assert device.peak_memory(CPU) < high - 100e6


def test_hardware_is_named_by_its_model_and_a_cpu_also_by_its_threads() -> None:
    name = device.hardware_name(CPU, 2)
    assert name.startswith("CPU ")
    assert name.endswith(", 2 threads")
    assert "(R)" not in name
