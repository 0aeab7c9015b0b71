"""The one decorator for our kernels: compiled on first call, cached where the cache cannot go stale."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
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


def _is_private(folder: Path) -> bool:
    """Whether `folder` is ours alone: whoever writes there chooses the machine code that we run."""
    if not hasattr(os, "getuid"):
        return True  # temporary folders are private to the user there
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


@cache
def cache_folder() -> Path | None:
    """Folder for machine code, or None: FPSOLVE_CACHE_DIR, else the user's cache, else a private temporary one."""
    name = f"kernels-{sources_digest(Path(__file__).parent)}"
    user = Path(os.environ.get("FPSOLVE_CACHE_DIR") or platformdirs.user_cache_dir("fpsolve"))
    if _is_writable(user / name):
        return user / name
    try:
        # its name can be guessed, and everybody may write next to it
        temporary = Path(tempfile.gettempdir()) / f"fpsolve-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    except FileNotFoundError:  # there is no folder for temporary files
        return None
    return temporary / name if _is_private(temporary) and _is_writable(temporary / name) else None


def inner_kernel(function: Callable[..., Any]) -> Any:
    """A kernel that only kernels call: without wrappers for Python, which take longer to compile than most bodies."""
    return kernel(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


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
