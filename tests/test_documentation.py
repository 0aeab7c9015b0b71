"""Every piece of code that a reader sees is run, and what is said twice agrees."""

import doctest
import importlib
import inspect
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

import fpsolve

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "fpsolve").rglob("*.py")
)


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, and how many lines of the page stand above the text."""

    language: str
    code: str
    above: int


def blocks_of(text: str) -> list[Block]:
    return [Block(m["language"], m["code"], text.count("\n", 0, m.start("code"))) for m in FENCE.finditer(text)]


def run_examples(test: doctest.DocTest) -> dict[str, Any]:
    """Run doctest examples, fail with doctest's own report, return the names that they leave behind."""
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    failed, _ = runner.run(test, out=report.append, clear_globs=False)
    assert not failed, "".join(report)
    return test.globs


def run_page(text: str, page: str) -> None:
    """Run the python blocks of a page in order in one namespace, as scripts or, where prompts stand, as dialogues."""
    namespace: dict[str, Any] = {"__name__": page}
    for block in blocks_of(text):
        if block.language == "python" and block.code.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.code, namespace, page, page, block.above)
            namespace.update(run_examples(test))
        elif block.language == "python":
            exec(compile("\n" * block.above + block.code, page, "exec"), namespace)


def docstring_tests(module: ModuleType) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(module, globs={"fps": fpsolve, "np": np})
    return [test for test in found if test.examples]


def public_callables() -> Iterator[tuple[str, Any]]:
    """Functions and classes that `fpsolve.__all__` names, itself or through a module such as `fps.processes`."""
    for name in fpsolve.__all__:
        thing = getattr(fpsolve, name)
        inner = thing.__all__ if inspect.ismodule(thing) else []
        for label, item in [(name, thing), *((f"{name}.{n}", getattr(thing, n)) for n in inner)]:
            if inspect.isfunction(item) or inspect.isclass(item):
                yield label, item


@pytest.fixture
def reader_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds the examples, as the root of a checkout does, so that nothing is written there."""
    if (ROOT / "examples").is_dir():
        shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("reader_folder")
@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_code_of_page_runs(page: str) -> None:
    run_page((ROOT / page).read_text(encoding="utf-8"), page)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nx = 1\n```\n\n```python\n>>> x + 1\n3\n```\n", 'File "page.md", line 6'),
        ("```python\n>>> y = 2\n```\n\n```python\nassert y == 3, 'y is not 3'\n```\n", "y is not 3"),
    ],
    ids=["dialogue", "script"],
)
def test_wrong_page_fails(text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        run_page(text, "page.md")


@pytest.mark.usefixtures("reader_folder")
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    for test in docstring_tests(importlib.import_module(name)):
        run_examples(test)


def test_public_names_have_an_example() -> None:
    without = [
        name
        for name, thing in public_callables()
        if not (inspect.isclass(thing) and issubclass(thing, BaseException)) and ">>>" not in (thing.__doc__ or "")
    ]
    assert not without, f"no example in the docstring of {', '.join(without)}"


def test_readme_has_two_set_up_commands_of_one_line_each() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    set_up = [b.code for b in blocks_of(readme) if b.language == "sh" and "python3 -m venv" in b.code]
    assert readme.count("python3 -m venv") == 2
    assert all(code.startswith("python3 -m venv .venv && ") and code.count("\n") == 1 for code in set_up)
    assert ["fpsolve verify" in code for code in set_up] == [True, False]
    assert ["pytest" in code for code in set_up] == [False, True]


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_repository_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_version_agrees_everywhere() -> None:
    version = fpsolve.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pre_commit_runs_the_ruff_of_the_lint_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    ruff = next(requirement for requirement in extras["lint"] if requirement.startswith("ruff"))
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r'"(ruff==[^"]+)"', hooks) == [ruff, ruff]
