"""The CPU switches: exact, repeatable, off inside attention, and back afterwards."""

import subprocess
import sys

import pytest
import torch

from instar.model import attention, speed
from instar.model.attention import Options, Pack
from instar.model.speed import MatmulProbe, plain_matmul, probe_matmul, use_fast_cpu, use_plain_cpu


@pytest.fixture(autouse=True)
def _switched_back():
    yield
    use_plain_cpu()


def switch():
    return torch.backends.mkldnn.matmul.fp32_precision


def test_probe_leaves_everything_as_it_was():
    before, state = switch(), torch.get_rng_state()
    probe_matmul.cache_clear()
    first = probe_matmul()
    assert switch() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert first is probe_matmul()
    assert first.plain_error < 1e-3


@pytest.mark.parametrize(("error", "slow", "switched"), [(1.0, True, True), (1000.0, True, False), (1.0, False, False)])
def test_switches_only_where_exact_and_needed(monkeypatch, error, slow, switched):
    monkeypatch.setattr(speed, "probe_matmul", lambda: MatmulProbe(1e-5, 1e-5 * error, 1.0, 9.0))
    monkeypatch.setattr(speed, "_is_slow_with_mkl", lambda: slow)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    done = use_fast_cpu()
    assert done.onednn is switched
    assert (switch() == "bf16") is switched
    assert ("oneDNN" in str(done)) is switched


def test_bfloat16_would_be_noticed():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(64, 512, generator=generator), torch.randn(512, 64, generator=generator)
    exact = left.double() @ right.double()
    plain = float((left @ right - exact).abs().max())
    coarse = float(((left.bfloat16() @ right.bfloat16()).float() - exact).abs().max())
    assert not MatmulProbe(plain, coarse, 1.0, 0.5).is_exact


def test_off_inside_and_back_afterwards():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    with plain_matmul():
        assert switch() == "ieee"
    assert switch() == "bf16"
    with pytest.raises(KeyError), plain_matmul():
        raise KeyError
    assert switch() == "bf16"
    use_plain_cpu()
    with plain_matmul():
        assert switch() == "none"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_turns_it_off_forward_and_backward(monkeypatch, dropout):
    seen = []
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    real = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    if dropout:
        for name in ("bmm", "baddbmm"):
            real = getattr(torch, name)
            monkeypatch.setattr(torch, name, lambda *a, real=real, **k: seen.append(switch()) or real(*a, **k))
    else:
        for name in (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention_for_cpu_backward",
        ):
            real = getattr(torch.ops.aten, name)
            monkeypatch.setattr(torch.ops.aten, name, lambda *a, real=real, **k: seen.append(switch()) or real(*a, **k))
    pack = Pack((5, 3), torch.device("cpu"))
    q, k, v = (torch.randn(1, 2, 8, 4, requires_grad=True) for _ in range(3))
    attention.attend(q, k, v, pack, Options(0.5, dropout, causal=False, window=None, read=False)).sum().backward()
    assert len(seen) >= 4
    assert set(seen) == {"ieee"}
    assert switch() == "bf16"


def test_allocator_is_tuned_on_linux():
    code = "from instar.model.speed import tune_allocator; print(tune_allocator())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=900)
    assert done.stdout.strip() == str(sys.platform == "linux")
