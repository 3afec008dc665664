"""Every way to attend gives the plain one's answer; dropout drops what it should."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.model import attention
from instar.model.attention import Options, Pack, attend, grouped, varlen
from instar.model.attention.grouped import GroupedAttention
from instar.model.attention.varlen import can_use_kernel, grouped_sdpa, window_size
from instar.model.dropout import Dropout, keep_scale, kept, swap_dropout, threshold


def reference(q, k, v, pack, options):
    """One document after the other, scores written out."""
    outs = []
    places = range(sum(pack.lengths)) if pack.read_M is None or not options.read else pack.read_M.tolist()
    for first, last in pairwise(pack.boundaries_D.tolist()):
        rows = [n for n, place in enumerate(places) if first <= place < last]
        if not rows:
            continue
        query_places = torch.tensor([places[n] - first for n in rows])
        distance = query_places[:, None] - torch.arange(last - first)[None]
        hidden = distance < 0 if options.causal else torch.zeros_like(distance, dtype=torch.bool)
        if options.window is not None:
            hidden = hidden | (distance.abs() >= options.window)
        scores = q[0][:, rows] @ k[0][:, first:last].transpose(1, 2) * options.scale
        outs.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v[0][:, first:last])
    return torch.cat(outs, 1).transpose(0, 1)[None]


def case(lengths, *, read=False, heads=2, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    read_M = None
    if read:
        read_M = torch.randperm(total, generator=generator)[: max(1, total // 3)].sort().values
    pack = Pack(tuple(lengths), torch.device("cpu"), read_M)
    queries = total if read_M is None else len(read_M)
    shapes = [(1, heads, queries, width), (1, heads, total, width), (1, heads, total, width)]
    return pack, [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


KINDS = [(False, None), (True, None), (False, 3), (True, 3)]


@pytest.mark.parametrize("way", [attend, grouped_sdpa, lambda q, k, v, p, o: GroupedAttention.apply(q, k, v, (p, o))])
@pytest.mark.parametrize(("causal", "window"), KINDS)
@pytest.mark.parametrize(("read", "heads"), [(False, 2), (True, 2), (False, 1)])
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_ways_agree(way, causal, window, read, heads, lengths, seed):  # noqa: PLR0917  pytest fills them
    pack, tensors = case(lengths, read=read, heads=heads, seed=seed)
    options = Options(scale=0.3, dropout=0.0, causal=causal, window=window, read=read)
    wanted = reference(*tensors, pack, options)
    got = way(*tensors, pack, options)
    before = [x.detach().clone() for x in tensors]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    upstream = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(
        torch.autograd.grad(got, tensors, upstream), torch.autograd.grad(wanted, tensors, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(x, kept_one) for x, kept_one in zip(tensors, before, strict=True))


@pytest.mark.parametrize(("causal", "window"), KINDS)
def test_chunks_do_not_matter(monkeypatch, causal, window):
    pack, tensors = case([9, 9, 8, 3])
    options = Options(0.3, 0.0, causal=causal, window=window, read=False)
    monkeypatch.setattr(grouped, "CHUNK", 1)
    got = GroupedAttention.apply(*tensors, (pack, options))
    torch.testing.assert_close(got, reference(*tensors, pack, options), rtol=1e-5, atol=1e-6)
    wanted = torch.autograd.grad(reference(*tensors, pack, options).sum(), tensors)
    for mine, theirs in zip(torch.autograd.grad(got.sum(), tensors), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_fewer_heads_of_keys():
    pack, (q, k, v) = case([5, 3], heads=4)
    k, v = k[:, :2], v[:, :2]
    options = Options(0.3, 0.0, causal=True, window=None, read=False)
    wanted = reference(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), pack, options)
    torch.testing.assert_close(attend(q, k, v, pack, options), wanted)


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize("kept_keys", [0, 512])  # probabilities computed again, or kept
def test_dropped_attention_has_the_right_mean_and_backward(monkeypatch, chunk, kept_keys):
    """Probabilities are linear in the values: averaging many draws gives the answer without dropout."""
    monkeypatch.setattr(grouped, "CHUNK", chunk)
    monkeypatch.setattr(grouped, "KEPT", kept_keys)
    pack, tensors = case([9, 3, 2])
    options = Options(0.3, 0.25, causal=False, window=None, read=False)
    torch.manual_seed(3)
    mean = sum(attend(*tensors, pack, options).detach() for _ in range(800)) / 800
    torch.testing.assert_close(mean, reference(*tensors, pack, options), rtol=0.1, atol=0.06)

    def replayed(*inputs):
        torch.manual_seed(4)
        return attend(*inputs, pack, options)

    doubles = [x.detach().double().requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(replayed, doubles, eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1e-6])
def test_dropout_rate_scale_and_seed(rate):
    layer = Dropout(rate)
    ones = torch.ones(200_000)
    torch.manual_seed(11)
    once = layer(ones)
    torch.manual_seed(11)
    again = layer(ones)
    other = layer(ones)
    share = threshold(rate) / 65536
    assert abs(share - rate) <= 1 / 65536
    assert torch.equal(once, again)
    assert rate < 1e-4 or not torch.equal(once, other)
    assert abs(float((once == 0).float().mean()) - share) < 5 * (share * (1 - share) / len(ones)) ** 0.5
    torch.testing.assert_close(once[once != 0], torch.full_like(once[once != 0], 1 / (1 - share)))
    assert keep_scale(rate) == pytest.approx(1 / (1 - share))


def test_dropout_gradient_is_its_mask():
    layer = Dropout(0.3)
    x = torch.randn(50, requires_grad=True)
    out = layer(x)
    (grad,) = torch.autograd.grad(out.sum(), [x])
    torch.testing.assert_close(out.detach(), x.detach() * grad)
    assert torch.equal(layer.eval()(x), x)
    assert Dropout(0.0)(x) is x
    assert not Dropout(1.0)(x).any()


def test_kept_is_a_function_of_its_arguments():
    assert torch.equal(kept(5, (3, 7), 0.4), kept(5, (3, 7), 0.4))
    assert kept(5, (3, 7), 0.4).shape == (3, 7)


def test_only_plain_dropouts_are_replaced():
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Dropout1d(0.2), torch.nn.Linear(2, 2)).eval()
    held = model[0]
    swap_dropout(model)
    assert [type(layer) for layer in model] == [Dropout, torch.nn.Dropout1d, torch.nn.Linear]
    assert model[0] is held, "whoever holds a dropout may go on setting it"
    assert not model[0].training
    assert model[0].p == 0.2


@pytest.mark.parametrize(
    ("causal", "window", "wanted"),
    [(False, None, (-1, -1)), (True, None, (-1, 0)), (True, 4, (3, 0)), (False, 4, (3, 3))],
)
def test_window_for_the_kernel(causal, window, wanted):
    assert window_size(Options(1.0, 0.0, causal=causal, window=window, read=False)) == wanted


def test_kernel_is_never_chosen_on_a_cpu():
    _, (q, _, _) = case([3])
    assert not can_use_kernel(q.bfloat16(), Options(1.0, 0.0, causal=False, window=None, read=False))


class OnGpu:
    """As much of a GPU tensor as the choice looks at."""

    is_cuda = True

    def __init__(self, dtype=torch.bfloat16, width=64):
        self.dtype, self.shape = dtype, (1, 2, 3, width)


def test_kernel_is_chosen_for_what_it_can_do(monkeypatch):
    def whole(**changed):
        return Options(**({"scale": 1.0, "dropout": 0.0, "causal": False, "window": None, "read": False} | changed))

    monkeypatch.setattr(varlen, "_kernel", object)
    monkeypatch.setattr(varlen, "_takes_window", lambda: True)
    assert can_use_kernel(OnGpu(), whole(window=5, causal=True))
    assert can_use_kernel(OnGpu(), whole(read=True))
    assert not can_use_kernel(OnGpu(torch.float32), whole())
    assert not can_use_kernel(OnGpu(), whole(dropout=0.1))
    assert not can_use_kernel(OnGpu(width=12), whole())
    assert not can_use_kernel(OnGpu(), whole(read=True, causal=True))
    monkeypatch.setattr(varlen, "_takes_window", lambda: False)
    assert not can_use_kernel(OnGpu(), whole(window=5))


def emulated(q, k, v, queries_D, keys_D, max_q, max_k, **options):  # noqa: PLR0917  torch's order
    """The kernel's contract, by SDPA, document by document."""
    assert max_q <= max(int(n) for n in keys_D.diff())
    assert queries_D.dtype == keys_D.dtype == torch.int32
    assert options.get("window_size", (-1, -1)) == (-1, -1)
    outs = []
    for (a, b), (c, d) in zip(pairwise(queries_D.tolist()), pairwise(keys_D.tolist()), strict=True):
        parts = (q[a:b].transpose(0, 1), k[c:d].transpose(0, 1), v[c:d].transpose(0, 1))
        outs.append(F.scaled_dot_product_attention(*parts, scale=options.get("scale")).transpose(0, 1))
    return torch.cat(outs)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("has_window", [True, False])
def test_the_kernel_gets_what_it_expects(monkeypatch, read, has_window):
    def without_window(q, k, v, queries_D, keys_D, max_q, max_k, is_causal):  # noqa: PLR0917
        assert not is_causal
        return emulated(q, k, v, queries_D, keys_D, max_q, max_k)

    monkeypatch.setattr(varlen, "_kernel", lambda: emulated if has_window else without_window)
    monkeypatch.setattr(varlen, "_takes_window", lambda: has_window)
    pack, tensors = case([5, 2, 7], read=read)
    options = Options(0.7, 0.0, causal=False, window=None, read=read)
    got = varlen.varlen_attention(*tensors, pack, options)
    torch.testing.assert_close(got, reference(*tensors, pack, options), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"pack": Pack((2,), torch.device("cpu"))}])
def test_lost_boundaries_are_noticed(options):
    q = torch.zeros(1, 1, 3, 8)
    with pytest.raises(attention.CannotPackError, match="boundaries"):
        attention.packed_attention(torch.nn.Identity(), q, q, q, None, **options)


@pytest.mark.parametrize("option", ["softcap", "s_aux", "position_bias"])
def test_unknown_score_changes_are_refused(option):
    q = torch.zeros(1, 1, 3, 8)
    with pytest.raises(attention.CannotPackError, match=option):
        attention.packed_attention(torch.nn.Identity(), q, q, q, None, pack=Pack((3,), q.device), **{option: 1.0})
