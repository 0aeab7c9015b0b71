"""The line that stands above every table: processor, cores and versions."""

import os
import platform

import numba
import numpy as np
import scipy

import fpsolve as fps


def machine_line() -> str:
    """Processor, cores and the versions of everything that is measured."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}"
    return f"{model}, {os.cpu_count()} cores; {versions}, numba {numba.__version__}, fpsolve {fps.__version__}"
