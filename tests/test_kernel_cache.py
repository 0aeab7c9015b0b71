"""The cache of machine code: where it lies, when it goes stale, and whose it may be."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba
import pytest

import fpsolve.kernels
from fpsolve.kernels.compile import cache_folder, kernel, sources_digest

KERNELS = Path(fpsolve.kernels.__file__).parent
find_folder = cache_folder.__wrapped__  # without the memory of an earlier answer


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Fresh places for the chosen folder, the user's cache and temporary files."""
    found = {name: tmp_path / name for name in ("chosen", "home", "temporary")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", str(found["chosen"]))
    monkeypatch.setenv("HOME", str(found["home"]))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(found["temporary"]))
    return found


def unusable(tmp_path: Path) -> str:
    """A path that nobody can create, not even root: it runs through a file."""
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    return str(file / "below")


# --- where it lies ----------------------------------------------------------------------------------------------------


def test_chosen_folder_comes_first(places: dict[str, Path]) -> None:
    folder = find_folder()
    assert folder.parent == places["chosen"]
    assert folder.name == f"kernels-{sources_digest(KERNELS)}"
    assert folder.is_dir()


def test_user_cache_comes_next(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FPSOLVE_CACHE_DIR")
    assert places["home"] in find_folder().parents


def test_unwritable_folders_fall_back_to_a_private_temporary_one(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPSOLVE_CACHE_DIR", unusable(tmp_path))
    folder = find_folder()
    assert folder.parent.parent == places["temporary"]
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert find_folder() == folder  # it is used again


def test_unwritable_home_falls_back(places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FPSOLVE_CACHE_DIR")
    monkeypatch.setenv("HOME", unusable(tmp_path))
    assert places["temporary"] in find_folder().parents


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="temporary folders are private to the user there")
class TestForeignFolder:
    """The temporary folder can be guessed by everybody: machine code from there is run only if it is ours alone."""

    @pytest.fixture(autouse=True)
    def only_temporary(self, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FPSOLVE_CACHE_DIR", unusable(tmp_path))
        self.folder = places["temporary"] / f"fpsolve-{os.getuid()}"

    def test_of_another_owner(self, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        other = os.getuid() + 1
        (places["temporary"] / f"fpsolve-{other}").mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: other)
        assert find_folder() is None

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
    def test_that_others_may_enter(self, mode: int) -> None:
        self.folder.mkdir()
        self.folder.chmod(mode)
        assert find_folder() is None

    def test_that_is_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        self.folder.symlink_to(tmp_path / "elsewhere")
        assert find_folder() is None

    def test_that_is_a_file(self) -> None:
        self.folder.write_text("", encoding="utf-8")
        assert find_folder() is None


def test_without_any_place_for_files_there_is_no_cache(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("FPSOLVE_CACHE_DIR", unusable(tmp_path))
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert find_folder() is None


def test_import_and_kernels_work_without_a_cache(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from fpsolve.kernels.compile import cache_folder, kernel\n"
        "assert cache_folder() is None\n"
        "assert kernel(lambda x: x + 1.0)(1.0) == 2.0\n"
        "from fpsolve.problem.coefficient import Coefficient\n"
        "assert Coefficient('drift', lambda x: -x).block(1, (0, 1)).how == 'python'\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    foreign = temporary / f"fpsolve-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    foreign.write_text("", encoding="utf-8")
    environment = os.environ | {
        "FPSOLVE_CACHE_DIR": unusable(tmp_path),
        "HOME": unusable(tmp_path),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
    }
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- when it goes stale -----------------------------------------------------------------------------------------------


def test_digest_changes_with_every_source_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    shutil.copytree(KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    seen = [sources_digest(folder)]
    assert seen[0] == sources_digest(KERNELS)
    for source in sorted(folder.glob("*.py")):
        source.write_bytes(source.read_bytes() + b"\n# edited\n")
        seen.append(sources_digest(folder))
    (folder / "another.py").write_text("", encoding="utf-8")
    seen.append(sources_digest(folder))
    (folder / "another.py").rename(folder / "renamed.py")
    seen.append(sources_digest(folder))
    monkeypatch.setattr(numba, "__version__", "0.0.0")
    seen.append(sources_digest(folder))
    assert len(set(seen)) == len(seen)


# --- numba's own setting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "mine"])
def test_numba_setting_is_put_back(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", before)

    @kernel
    def plus_one(x: float) -> float:
        return x + 1.0

    assert before == numba.config.CACHE_DIR
    broken: Any = "not a function"
    with pytest.raises(Exception, match="str"):
        kernel(fastmath=True)(broken)
    assert before == numba.config.CACHE_DIR
    assert plus_one(1.0) == 2.0


def test_options_reach_numba_and_keep_our_defaults() -> None:
    @kernel(fastmath=True)
    def divide(x: float, y: float) -> float:
        return x / y

    assert divide.targetoptions["fastmath"]
    assert divide.targetoptions["nogil"]
    assert kernel(lambda x: 1.0 / x)(0.0) == float("inf")
