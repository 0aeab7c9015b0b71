"""Claims: functions that return a verdict, collected from files and from the catalogue."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fpsolve.errors import ClaimError
from fpsolve.verdict.verdict import Verdict


@dataclass(frozen=True)
class Claim:
    """A named statement that can be examined.

    Attributes
    ----------
    id : str
        Name on the command line.
    statement : str
        What is claimed, from the docstring.
    setting : str
        Fixture of a catalogue identity.

    Examples
    --------
    >>> fps.Claim("one-is-one", "1 = 1", lambda: fps.check_equal(fps.exact(1.0), fps.exact(1.0)))().confirmed
    True
    """

    id: str
    statement: str
    function: Callable[..., Verdict]
    setting: str = ""

    @property
    def name(self) -> str:
        """Id with its setting."""
        return f"{self.id} [{self.setting}]" if self.setting else self.id

    def __call__(self, **options: Any) -> Verdict:
        """Examine the claim; options (tol, seed) that its function names are passed on."""
        accepted = inspect.signature(self.function).parameters
        chosen = {k: v for k, v in options.items() if k in accepted and v is not None}
        verdict = self.function(**chosen)
        if not isinstance(verdict, Verdict):
            raise ClaimError(
                f"a claim must return a Verdict; {self.name} returned {type(verdict).__name__}. "
                "Fix: end it with `return fps.check_...(...)`."
            )
        return verdict


def claim(function: Callable[..., Verdict]) -> Claim:
    """Mark a function that returns a Verdict as a claim for `fpsolve verify FILE.py`.

    Parameters
    ----------
    function : callable
        Without required arguments; it may name `tol` and `seed`, which the command line then sets.

    Returns
    -------
    Claim
        Callable like the function; its id is the function's name with hyphens, its statement the docstring.

    Raises
    ------
    ClaimError
        If the function needs arguments that nobody can give.

    Examples
    --------
    >>> @fps.claim
    ... def one_is_one():
    ...     "1 = 1"
    ...     return fps.check_equal(fps.exact(1.0), fps.exact(1.0))
    >>> one_is_one.id, one_is_one().outcome
    ('one-is-one', 'confirmed')
    """
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in ("tol", "seed"):
            raise ClaimError(
                f"a claim takes no arguments but tol and seed; {function.__name__} needs {name}. "
                "Fix: give it a default."
            )
    statement = inspect.cleandoc(function.__doc__ or function.__name__.replace("_", " "))
    return Claim(function.__name__.replace("_", "-"), statement, function)


def claims_in_file(file: str | Path) -> list[Claim]:
    """Import a file and return its claims in the order of definition."""
    module, path = imported_file(file, "a claims file"), Path(file)
    found = [value for value in vars(module).values() if isinstance(value, Claim)]
    if not found:
        raise ClaimError(
            f"a claims file must hold claims; {path} has none. "
            "Fix: put @fps.claim above functions that return a Verdict."
        )
    return found


def imported_file(file: str | Path, what: str) -> ModuleType:
    """Import a Python file by its path; ClaimError says what is wrong with it."""
    path = Path(file)
    if not path.is_file():
        raise ClaimError(f"{what} must exist; got {str(path)!r}. Fix: check the path.")
    name = f"fpsolve_claims_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ClaimError(f"{what} must be a Python file; got {str(path)!r}. Fix: name it something.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise ClaimError(
            f"{what} must import; {path} raised {type(problem).__name__}: {problem}. "
            f"Fix: run `python {path}` to see it."
        ) from problem
    finally:
        sys.path.remove(folder)
    return module
