"""Which tokens are hidden; one file a policy.

A policy offers `choose(batch, rate, key) -> places`: ascending places in the packed row, as a
function of the batch and the key only.
"""

from instar.masking.uniform import Uniform

Masking = Uniform

__all__ = ["Masking", "Uniform"]
