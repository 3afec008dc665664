"""Tensors and arrays alike, as numpy arrays on the host."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def to_numpy(values: Any) -> NDArray[Any]:
    """The values as a numpy array; a tensor may have any device, gradient or dtype (bfloat16 becomes float32)."""
    if hasattr(values, "detach"):
        host = values.detach().cpu()
        if not host.dtype.is_complex and host.dtype.is_floating_point and host.element_size() < 4:
            host = host.float()
        return np.asarray(host.numpy())
    return np.asarray(values)


def to_integers(values: ArrayLike | Any, name: str) -> NDArray[np.int64]:
    """The values as int64; raises ValueError where a value is not a whole number."""
    array = to_numpy(values)
    if array.size == 0:
        return array.astype(np.int64)
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        raise ValueError(f"{name}: whole numbers wanted; got {array.dtype} with {array[whole != array].flat[0]!r}")
    return whole
