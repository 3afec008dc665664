"""`optim="muon"`, which Transformers does not have: hidden matrices by Muon, the rest by AdamW."""

from typing import Any

from torch import nn

from instar.api.optimizers.groups import decay_parameter_names
from instar.api.optimizers.options import flag, number, whole
from instar.api.optimizers.recipe import Recipe, Request
from instar.optim.groups import is_hidden_matrix


def _finish(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Groups: hidden matrices, what else decays, and what does not."""
    model = request.needed_model()
    decays, ends = set(decay_parameter_names(model)), _ends(model)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    hidden = {name for name, parameter in trained if is_hidden_matrix(name, parameter) and name in decays - ends}
    if not hidden:
        raise ValueError("optim='muon' steps hidden matrices, and this model has none; adamw_torch does the rest alike")
    decay = request.args.weight_decay
    groups = [
        {"params": [p for name, p in trained if name in hidden], "weight_decay": decay, "orthogonal": True},
        {"params": [p for name, p in trained if name in decays - hidden], "weight_decay": decay, "orthogonal": False},
        {"params": [p for name, p in trained if name not in decays], "weight_decay": 0.0, "orthogonal": False},
    ]
    return found, kwargs | {"params": groups}


def _ends(model: nn.Module) -> set[str]:
    """Names of the tables in and out of the network."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    tables |= {id(parameter) for parameter in output.parameters()} if isinstance(output, nn.Module) else set()
    return {name for name, parameter in model.named_parameters() if id(parameter) in tables}


RECIPES = {
    "muon": Recipe(
        target="instar.optim.orthogonal:MuonAdamW",
        betas=True,
        eps=True,
        options={"momentum": number, "nesterov": flag, "num_iterations": whole},
        finish=_finish,
    )
}
