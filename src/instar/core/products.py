"""Products of matrices that are the same bits wherever their operands lie in memory."""

import os

SETTING = "MKL_CBWR"
VALUE = "AUTO,STRICT"


def ask_for_reproducible_products() -> None:
    """Ask the matmul library for products that do not depend on memory alignment; for whoever owns the process.

    The library reads this at its first product, and child processes inherit it; a value of the user's stays. Without
    it MKL's float32 products with few columns follow the alignment of their operands on CPUs without AVX-512 that
    Intel did not make.
    """
    os.environ.setdefault(SETTING, VALUE)
