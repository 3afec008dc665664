"""A compiled body gives the loss and the gradients of the plain one, for batches of changing size."""

import pytest

from tests.model.helpers import assert_same_gradients, mean_loss, network, prepared


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the tracer looks at it itself
@pytest.mark.parametrize(("family", "head"), [("bert", "masked_lm"), ("gpt2", "causal_lm")])
def test_compiled_equals_plain(family, head):
    plain, compiled = (network(family, head, num_layers=1) for _ in range(2))
    compiled.compile_body(backend="aot_eager")  # traces forward and backward, and needs no C++ compiler
    for lengths in ((9, 17, 3, 12), (4, 4, 20)):
        for built in (plain, compiled):
            built.zero_grad()
        wanted, loss = (mean_loss(built, prepared(head, lengths)) for built in (plain, compiled))
        wanted.backward()
        loss.backward()
        assert abs(loss.item() - wanted.item()) <= 1e-6
        assert_same_gradients(compiled.model, plain.model)
