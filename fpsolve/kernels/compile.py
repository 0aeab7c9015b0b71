"""The one decorator for our kernels: compiled on first call, cached where the cache cannot go stale."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
import platformdirs


def sources_digest(folder: Path) -> str:
    """Digest of every source in `folder` and of all versions that shape the machine code."""
    digest = hashlib.sha256()
    for part in (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__):
        digest.update(part.encode())
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@cache
def cache_folder() -> Path | None:
    """Folder for machine code, or None: FPSOLVE_CACHE_DIR, else the user's cache, else a temporary one."""
    name = f"kernels-{sources_digest(Path(__file__).parent)}"
    user = os.environ.get("FPSOLVE_CACHE_DIR") or platformdirs.user_cache_dir("fpsolve")
    shared = Path(tempfile.gettempdir()) / f"fpsolve-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    return next((base / name for base in (Path(user), shared) if _is_writable(base / name)), None)


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile like numba.njit with nogil and NumPy's division, cached in `cache_folder()`."""

    def decorate(fn: Callable[..., Any]) -> Any:
        folder = cache_folder()
        before = numba.config.CACHE_DIR
        # numba chooses a function's cache folder while decorating; the user's own setting is put back
        numba.config.CACHE_DIR = str(folder) if folder else before
        try:
            settings = {"nogil": True, "error_model": "numpy", "cache": folder is not None, **options}
            return numba.njit(**settings)(fn)
        finally:
            numba.config.CACHE_DIR = before

    return decorate if function is None else decorate(function)
