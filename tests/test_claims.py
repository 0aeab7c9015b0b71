"""Claims and files of claims: how they are named, called and collected, and what is said about bad ones."""

import re
from pathlib import Path
from typing import Any

import pytest

import fpsolve as fps
from fpsolve.catalogue.identity import Identity, Sibling
from fpsolve.errors import ClaimError
from fpsolve.verdict.claims import Claim, claims_in_file

HEADER = "import fpsolve as fps\n\n"
RIGHT = "@fps.claim\ndef {name}():\n    return fps.check_equal(fps.exact(1.0), fps.exact(1.0))\n\n"


def one_equals(value: float, **options: Any) -> fps.Verdict:
    return fps.check_equal(fps.exact(1.0), fps.exact(value), **{k: v for k, v in options.items() if v is not None})


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_claim_takes_its_id_and_statement_from_the_function() -> None:
    @fps.claim
    def one_is_one() -> fps.Verdict:
        """1 = 1.

        For all time.
        """
        return one_equals(1.0)

    assert (one_is_one.id, one_is_one.name, one_is_one.setting) == ("one-is-one", "one-is-one", "")
    assert one_is_one.statement == "1 = 1.\n\nFor all time."
    assert one_is_one().confirmed


def test_claim_without_docstring_is_stated_by_its_name() -> None:
    @fps.claim
    def one_is_two() -> fps.Verdict:
        return one_equals(2.0)

    assert one_is_two.statement == "one is two"
    assert one_is_two().refuted


def test_options_reach_only_the_functions_that_name_them() -> None:
    seen: dict[str, Any] = {}

    @fps.claim
    def takes_both(tol: float = 1e-3, seed: int = 5) -> fps.Verdict:
        seen.update(tol=tol, seed=seed)
        return one_equals(1.0)

    @fps.claim
    def takes_none() -> fps.Verdict:
        return one_equals(1.0)

    takes_both(tol=0.1, seed=3)
    assert seen == {"tol": 0.1, "seed": 3}
    takes_both(tol=None, seed=None)
    assert seen == {"tol": 1e-3, "seed": 5}
    assert takes_none(tol=0.1, seed=3).confirmed


def test_claim_with_an_argument_that_nobody_gives_is_refused() -> None:
    with pytest.raises(ClaimError, match=r"no arguments but tol and seed; needy needs sigma. Fix: give it a default"):

        @fps.claim
        def needy(sigma: float) -> fps.Verdict:
            return one_equals(sigma)


def test_claim_that_returns_no_verdict_is_refused() -> None:
    @fps.claim
    def forgetful() -> Any:
        return one_equals(1.0).outcome

    with pytest.raises(ClaimError, match=r"must return a Verdict; forgetful returned str. Fix: end it with"):
        forgetful()


def test_file_gives_its_claims_in_the_order_of_definition(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER + "".join(RIGHT.format(name=name) for name in ("zeta", "alpha", "mu")))
    assert [claim.id for claim in claims_in_file(file)] == ["zeta", "alpha", "mu"]


def test_file_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "VALUE = 1.0\n", "neighbour_of_mine.py")
    text = HEADER + "from neighbour_of_mine import VALUE\n\n" + RIGHT.format(name="near").replace("(1.0)", "(VALUE)")
    assert claims_in_file(write(tmp_path, text))[0]().confirmed


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("absent.py", None, "a claims file must exist; got '{path}'. Fix: check the path."),
        ("notes.txt", "x", "a claims file must be a Python file; got '{path}'. Fix: name it something.py."),
        (
            "broken.py",
            "1 / 0\n",
            "a claims file must import; {path} raised ZeroDivisionError: division by zero. Fix: run",
        ),
        ("syntax.py", "def f(:\n", "a claims file must import; {path} raised SyntaxError"),
        ("empty.py", HEADER + "x = 1\n", "a claims file must hold claims; {path} has none. Fix: put @fps.claim above"),
    ],
)
def test_bad_file_is_named_with_the_rule_and_the_fix(
    tmp_path: Path, name: str, text: str | None, complaint: str
) -> None:
    file = tmp_path / name if text is None else write(tmp_path, text, name)
    with pytest.raises(ClaimError, match=re.escape(complaint.format(path=file))):
        claims_in_file(file)


def test_identity_makes_a_claim_of_every_setting_and_of_every_sibling_in_it() -> None:
    identity = Identity(
        "toy-one",
        "1 = 1",
        "always",
        "folklore",
        ("exact",),
        1.0,
        {"blatant": one_equals, "subtle": one_equals},
        (Sibling("one is two", 2.0),),
    )
    right, wrong = identity.claims(), identity.wrong_claims()
    assert identity.group == "toy"
    assert [claim.name for claim in right] == ["toy-one [blatant]", "toy-one [subtle]"]
    assert [claim(tol=1e-6, seed=1).outcome for claim in right] == ["confirmed", "confirmed"]
    assert [(s.name, claim.setting, claim().outcome) for s, claim in wrong] == [
        ("one is two", "blatant", "refuted"),
        ("one is two", "subtle", "refuted"),
    ]
    assert all(isinstance(claim, Claim) for claim in right)
