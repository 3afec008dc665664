"""Any Transformers model behind one seam: hidden states where they are read, and its own head on just those."""

from instar.model.build import ProblemType, build_network
from instar.model.classes import Head, Pooling, head_of_architecture
from instar.model.config import FromConfig, FromFolder, ModelConfig
from instar.model.cross_entropy import Scores
from instar.model.layer_heads import HeadKey, HeadSpec
from instar.model.load import Crossing
from instar.model.network import Forward, LoadReport, Network
from instar.model.speed import use_fast_cpu, use_plain_cpu

__all__ = [
    "Crossing",
    "Forward",
    "FromConfig",
    "FromFolder",
    "Head",
    "HeadKey",
    "HeadSpec",
    "LoadReport",
    "ModelConfig",
    "Network",
    "Pooling",
    "ProblemType",
    "Scores",
    "build_network",
    "head_of_architecture",
    "use_fast_cpu",
    "use_plain_cpu",
]
