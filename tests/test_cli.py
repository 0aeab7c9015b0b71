"""The command line: what it prints, writes and returns, for good input, bad input and an impatient user."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fpsolve as fps
from fpsolve import catalogue, cli
from fpsolve.catalogue.identity import Identity, Sibling
from fpsolve.report.record import as_json, check_destination, plain, write_whole
from fpsolve.report.result import OUTCOMES, examine, without_verdict
from fpsolve.report.table import COLUMNS, LiveProgress, print_table, result_rows

HEADER = "import os, pathlib, time\nimport fpsolve as fps\n\n"
RIGHT = """@fps.claim
def right(tol=1e-4):
    "One is one."
    print("chatter")
    return fps.check_equal(fps.exact(1.0), fps.Estimate(1.0 + 1e-6, error=1e-9, route="series"), tol=tol)

"""
WRONG = """@fps.claim
def wrong():
    "One is two."
    return fps.check_equal(fps.exact(1.0), fps.exact(2.0))

"""
VAGUE = """@fps.claim
def vague():
    "One is about one."
    return fps.check_equal(fps.exact(1.0), fps.Estimate(1.0, error=0.5, route="guess"))

"""
BROKEN = """@fps.claim
def broken():
    "Nobody knows."
    raise ValueError("no such [thing]")

"""
QUITTER = """@fps.claim
def quitter():
    raise SystemExit(0)

"""
SLOW = """@fps.claim
def slow():
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(60)

@fps.claim
def later():
    time.sleep(60)

"""
COMMAND = [sys.executable, "-c", "from fpsolve.cli import main; raise SystemExit(main())"]


def claims_file(folder: Path, *parts: str, name: str = "mine.py") -> str:
    file = folder / name
    file.write_text(HEADER + "".join(parts), encoding="utf-8")
    return str(file)


def one_equals(value: float, tol: float | None = None, seed: int = 0) -> fps.Verdict:
    return fps.check_equal(fps.exact(1.0), fps.exact(value), tol=tol or 1e-4, seed=seed)


def toy(name: str, truth: float = 1.0) -> Identity:
    return Identity(
        name,
        f"{name} = 1\nat every time",
        "always",
        "folklore, eq. 1",
        ("closed form", "quadrature"),
        truth,
        {"blatant": one_equals, "subtle": one_equals},
        (Sibling("off by one", 2.0), Sibling("off by two", 3.0)),
    )


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> dict[str, Identity]:
    known = {name: toy(name) for name in ("rev-one", "rev-two", "pf-one")}
    monkeypatch.setattr(catalogue, "IDENTITIES", known, raising=False)
    return known


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of a plain table by their first column."""
    table = text.split("\n\n")[0].splitlines()
    return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line.strip()) for line in table)}


# Table and exit status


def test_table_has_claim_routes_discrepancy_tolerance_verdict_and_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["verify", claims_file(tmp_path, RIGHT, BROKEN)])
    rows = rows_of(capsys.readouterr().out)
    assert rows["claim"] == list(COLUMNS[1:])
    routes, discrepancy, tolerance, verdict, seconds = rows["right"]
    assert (routes, discrepancy) == ("exact; series", "1.0e-06 ± 1e-09")
    assert (tolerance, verdict) == ("1.0e-04", "confirmed")
    assert float(seconds) < 5
    assert rows["broken"][:-1] == ["-", "-", "-", "error"]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((RIGHT,), 0),
        ((RIGHT, WRONG), 1),
        ((RIGHT, VAGUE), 2),
        ((VAGUE, WRONG, RIGHT), 1),
        ((BROKEN, VAGUE, WRONG, RIGHT), 3),
    ],
    ids=["confirmed", "refuted", "inconclusive", "refuted-wins", "error-wins"],
)
def test_exit_status(tmp_path: Path, parts: tuple[str, ...], status: int) -> None:
    assert cli.main(["verify", claims_file(tmp_path, *parts)]) == status


def test_only_what_is_not_confirmed_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", claims_file(tmp_path, RIGHT, WRONG, VAGUE)])
    out = capsys.readouterr().out
    below = out.split("\n\n", 1)[1]
    assert "wrong\n  One is two.\n  REFUTED: equal\n" in below
    assert "vague\n  One is about one.\n  INCONCLUSIVE: equal\n" in below
    assert "the bottleneck is guess" in below
    assert "right" not in below
    assert re.search(r"\n1 confirmed, 1 refuted, 1 inconclusive in \d+\.\d s\n$", out)


def test_claim_that_raises_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", claims_file(tmp_path, BROKEN, QUITTER, RIGHT, WRONG)]) == 3
    out = capsys.readouterr().out
    assert [cells[-2] for cells in rows_of(out).values()] == ["verdict", "error", "error", "confirmed", "refuted"]
    line = (HEADER + BROKEN).splitlines().index('    raise ValueError("no such [thing]")') + 1
    assert f"ERROR: ValueError: no such [thing] (mine.py, line {line})" in out
    assert "ERROR: SystemExit: 0" in out


def test_every_number_of_workers_gives_the_same_verdicts(tmp_path: Path) -> None:
    file, claims = claims_file(tmp_path, BROKEN, VAGUE, RIGHT, QUITTER, WRONG), []
    for workers in ("1", "2"):
        record = tmp_path / f"{workers}.json"
        assert cli.main(["verify", file, "--workers", workers, "--seed", "3", "--json", str(record)]) == 3
        claims.append([c | {"seconds": None} for c in json.loads(record.read_text(encoding="utf-8"))["claims"]])
    assert claims[0] == claims[1]
    assert [c["id"] for c in claims[0]] == ["broken", "vague", "right", "quitter", "wrong"]


def test_worker_that_dies_is_an_error_and_not_a_hang(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deadly = "@fps.claim\ndef deadly():\n    os._exit(1)\n\n"
    assert cli.main(["verify", claims_file(tmp_path, RIGHT, deadly), "--workers", "2"]) == 3
    assert "a worker process died; run the claim alone" in capsys.readouterr().out


def test_claim_that_a_worker_cannot_find_is_an_error(tmp_path: Path) -> None:
    job, lost = cli.select_jobs([claims_file(tmp_path, RIGHT)])[0], Future[Any]()
    with pytest.raises(fps.ClaimError, match="a claim must be there at every import") as caught:
        cli.examine_by_name(job.source, "gone", "", {})
    lost.set_exception(caught.value)
    assert cli.result_of(lost, job).outcome == "error"
    assert "not found again in a worker process: a claim must be there" in cli.result_of(lost, job).error_text


def test_claims_stay_in_this_process_unless_more_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def count(jobs: Any, settings: Any, workers: int, progress: Any) -> Any:
        asked.append(workers)
        return cli.run_here(jobs, settings, progress)

    monkeypatch.setattr(cli, "run_in_processes", count)
    assert cli.main(["verify", claims_file(tmp_path, RIGHT, WRONG)]) == 1
    assert asked == []
    assert cli.main(["verify", claims_file(tmp_path, RIGHT, WRONG), "--workers", "5"]) == 1
    assert asked == [2]


# What is chosen


def test_no_argument_is_the_whole_catalogue(toys: dict[str, Identity], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--workers", "1"]) == 0
    assert list(rows_of(capsys.readouterr().out))[1:] == [f"{i} [{s}]" for i in toys for s in ("blatant", "subtle")]


@pytest.mark.parametrize(
    ("targets", "ids"),
    [
        (["rev-*"], ["rev-one", "rev-two"]),
        (["*-one"], ["rev-one", "pf-one"]),
        (["pf-one", "rev-*", "*-one"], ["pf-one", "rev-one", "rev-two"]),
        (["rev-two"], ["rev-two"]),
    ],
)
@pytest.mark.usefixtures("toys")
def test_ids_and_patterns_select_each_identity_once(targets: list[str], ids: list[str]) -> None:
    assert [job.claim.id for job in cli.select_jobs(targets)] == [i for i in ids for _ in range(2)]
    assert [identity.id for identity in cli.select_identities(targets)] == ids


@pytest.mark.usefixtures("toys")
def test_file_claim_and_identity_can_be_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = claims_file(tmp_path, RIGHT, WRONG, VAGUE)
    names = [job.claim.name for job in cli.select_jobs([f"{file}::wrong", "pf-one", f"{file}::*g*", f"{file}::wrong"])]
    assert names == ["wrong", "pf-one [blatant]", "pf-one [subtle]", "right", "vague"]
    monkeypatch.chdir(tmp_path)
    assert [job.source for job in cli.select_jobs(["mine.py::right"])] == [file]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["verify", "rev-won"],
            "an identity must be one of pf-one, rev-one, rev-two; got 'rev-won'. Fix: did you mean",
        ),
        (["verify", "xyz-*"], "got 'xyz-*'. Fix: use one of the known names."),
        (["list", "rev-won"], "Fix: did you mean 'rev-"),
        (["explain", "rev-won"], "Fix: did you mean 'rev-"),
        (["verify", "--tol", "0"], "--tol must be a finite number above 0; got 0."),
        (["verify", "--tol", "nan"], "--tol must be a finite number above 0; got nan."),
        (["verify", "--seed", "-1"], "--seed must be a whole number of at least 0; got -1."),
        (["verify", "--workers", "0"], "--workers must be a whole number of at least 1; got 0."),
        (["verify", "{folder}/absent.py"], "a claims file must exist; got '{folder}/absent.py'."),
        (["verify", "{folder}/bad.py"], "a claims file must import; {folder}/bad.py raised ZeroDivisionError"),
        (
            ["verify", "{folder}/quits.py"],
            "a claims file must not end the program when it is imported; {folder}/quits.py did.",
        ),
        (["verify", "{folder}/empty.py"], "a claims file must hold claims; {folder}/empty.py has none."),
        (["verify", "{folder}/notes.txt"], "a claims file must be a Python file; got '{folder}/notes.txt'."),
        (
            ["verify", "{folder}/mine.py::wright"],
            "a claim of {folder}/mine.py must be one of right; got 'wright'. Fix: did",
        ),
        (["verify", "pf-one", "--json", "{folder}"], "got '{folder}'. Fix: name a file in this folder."),
        (["verify", "pf-one", "--json", "{folder}/no/x.json"], "Fix: make the folder {folder}/no first."),
    ],
)
@pytest.mark.usefixtures("toys")
def test_bad_input_has_rule_value_and_fix_and_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    claims_file(tmp_path, RIGHT)
    claims_file(tmp_path, "1 / 0\n", name="bad.py")
    claims_file(tmp_path, RIGHT, "raise SystemExit(0)\n", name="quits.py")
    claims_file(tmp_path, name="empty.py")
    claims_file(tmp_path, name="notes.txt")
    assert cli.main([argument.format(folder=tmp_path) for argument in arguments]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fpsolve: ")
    assert complaint.format(folder=tmp_path) in captured.err


@pytest.mark.parametrize(
    "arguments", [[], ["verify", "--tol", "small"], ["judge"], ["explain"], ["list", "--json", "x"]]
)
def test_usage_errors_have_status_3(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 3
    assert "usage: fpsolve" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fpsolve {fps.__version__}\n"


def test_option_that_reaches_no_claim_is_not_ignored_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["verify", claims_file(tmp_path, RIGHT, WRONG, VAGUE), "--tol", "1e-7"])
    captured = capsys.readouterr()
    assert "fpsolve: --tol does not reach wrong, vague: the function has no parameter tol\n" in captured.err
    assert rows_of(captured.out)["right"][2:4] == ["1.0e-07", "refuted"]


# list and explain


@pytest.mark.usefixtures("toys")
def test_list_shows_id_group_statement_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "rev-*"]) == 0
    assert rows_of(capsys.readouterr().out) == {
        "id": ["group", "statement", "settings", "siblings"],
        "rev-one": ["rev", "rev-one = 1", "2", "2"],
        "rev-two": ["rev", "rev-two = 1", "2", "2"],
    }


@pytest.mark.usefixtures("toys")
def test_explain_shows_everything_about_an_identity(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "rev-one"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rev-one",
        "  statement       rev-one = 1",
        "                  at every time",
        "  conditions      always",
        "  source          folklore, eq. 1",
        "  settings        blatant",
        "                  subtle",
        "  routes          closed form",
        "                  quadrature",
        "  wrong siblings  off by one",
        "                  off by two",
    ]


# JSON record

CLAIM_NAMES = {
    *("id", "setting", "statement", "outcome", "discrepancy", "error", "tolerance", "where", "routes", "blind_to"),
    *("scope", "note", "suspects", "spent", "seconds", "error_text"),
}
RECORD_NAMES = {
    "format",
    "fpsolve",
    "machine",
    "python",
    "numpy",
    "numba",
    "seed",
    "tol",
    "claims",
    "summary",
    "exit_status",
}


def strict(text: str) -> dict[str, Any]:
    """Parse JSON and refuse the constants that are none."""
    return dict(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")))


def test_record_has_every_figure(tmp_path: Path) -> None:
    file, out = claims_file(tmp_path, RIGHT, WRONG, BROKEN), tmp_path / "out.json"
    assert cli.main(["verify", file, "--json", str(out), "--seed", "4"]) == 3
    record = strict(out.read_text(encoding="utf-8"))
    assert record.keys() == RECORD_NAMES
    assert (record["format"], record["fpsolve"], record["exit_status"]) == (1, fps.__version__, 3)
    assert (record["seed"], record["tol"]) == (4, None)
    assert record["summary"] == {"confirmed": 1, "refuted": 1, "inconclusive": 0, "error": 1, "not_run": 0}
    assert all(claim.keys() == CLAIM_NAMES for claim in record["claims"])
    right, wrong, broken = record["claims"]
    assert (right["statement"], right["outcome"], right["tolerance"]) == ("One is one.", "confirmed", 1e-4)
    assert right["discrepancy"] == pytest.approx(1e-6, rel=1e-3)
    assert right["error"] == pytest.approx(1e-9, rel=1e-3)
    assert right["spent"] > 0
    assert [row["route"] for row in right["routes"]] == ["exact against series"]
    assert wrong["discrepancy"] == pytest.approx(0.5)
    assert (broken["outcome"], broken["routes"], broken["discrepancy"]) == ("error", [], None)
    assert broken["error_text"].startswith("ValueError: no such [thing]")


def test_record_on_standard_output_is_alone_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", claims_file(tmp_path, RIGHT, WRONG), "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert [claim["outcome"] for claim in strict(captured.out)["claims"]] == ["confirmed", "refuted"]
    assert rows_of(captured.err.split("chatter\n")[1])["right"][3] == "confirmed"


def test_what_a_claim_prints_is_kept_out_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", claims_file(tmp_path, RIGHT)])
    captured = capsys.readouterr()
    assert "chatter" not in captured.out
    assert captured.err == "chatter\n"


def test_numbers_that_json_does_not_know_become_null() -> None:
    np = pytest.importorskip("numpy")
    content = {
        "a": np.float64("nan"),
        "b": (1, float("inf")),
        "c": np.arange(2),
        "d": {3: np.bool_(True)},
        "e": Path("p"),
    }
    assert strict(as_json(plain(content))) == {"a": None, "b": [1, None], "c": [0, 1], "d": {"3": True}, "e": "p"}


def test_record_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, link = tmp_path / "out.json", tmp_path / "link.json"
    out.write_text("old", encoding="utf-8")
    link.symlink_to(out)
    write_whole(link, "new")
    assert (out.read_text(encoding="utf-8"), link.is_symlink()) == ("new", True)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(fps.InputError, match=r"got 'disk full'. Fix: choose another place"):
        write_whole(out, "newer")
    assert out.read_text(encoding="utf-8") == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.json", "out.json"]


def test_device_is_written_and_not_replaced() -> None:
    write_whole(check_destination("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()


def test_record_that_cannot_be_written_is_status_3_after_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    out = tmp_path / "out.json"
    assert cli.main(["verify", claims_file(tmp_path, RIGHT), "--json", str(out)]) == 3
    captured = capsys.readouterr()
    assert "1 confirmed" in captured.out
    assert "No space left on device" in captured.err


# Ctrl-C


@pytest.mark.parametrize(("workers", "whole_group"), [("1", False), ("2", True)])
def test_interrupt_shows_what_finished_and_stops_quickly(tmp_path: Path, workers: str, whole_group: bool) -> None:
    file, out = claims_file(tmp_path, RIGHT, SLOW), tmp_path / "out.json"
    process = subprocess.Popen(
        [*COMMAND, "verify", file, "--workers", workers, "--json", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pid_file = tmp_path / "mine.pid"
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    time.sleep(4.0)  # with two workers the first claim is decided beside the slow one
    start = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert time.monotonic() - start < 3
    assert process.returncode == 130
    assert [cells[-2] for cells in rows_of(stdout).values()] == ["verdict", "confirmed", "not run", "not run"]
    assert "1 confirmed, 2 not run" in stdout
    assert "Traceback" not in stderr
    record = strict(out.read_text(encoding="utf-8"))
    assert (record["exit_status"], record["summary"]["not_run"]) == (130, 2)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.deep
def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    file = claims_file(tmp_path, SLOW)
    process = subprocess.Popen([*COMMAND, "verify", file, "--workers", "2"], stderr=subprocess.DEVNULL)
    pid_file = tmp_path / "mine.pid"
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    status = Path(f"/proc/{pid_file.read_text()}/stat")
    while status.exists() and status.read_text().split(") ")[1][0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert time.monotonic() < deadline


def test_interrupt_while_a_file_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", claims_file(tmp_path, RIGHT, "raise KeyboardInterrupt\n")]) == 130
    assert capsys.readouterr().err == "fpsolve: interrupted\n"


# Terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_table_is_never_cut_and_has_no_escape_codes() -> None:
    stream = io.StringIO()
    print_table(stream, ("id", "seconds"), [("x" * 300, "1.00"), ("y [subtle]", "10.00")])
    assert stream.getvalue().splitlines() == [
        "id".ljust(302) + "seconds",
        "x" * 300 + "     1.00",
        "y [subtle]".ljust(304) + "10.00",
    ]


def test_terminal_table_fits_and_shows_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    results = [examine(claim) for claim in toy("rev-one").claims()]
    print_table(stream, COLUMNS, result_rows(results))
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "\x1b[32m" in stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "subtle]" in text


def test_live_progress_names_the_claim_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream, silent = Terminal(), io.StringIO()
    first, second = toy("rev-one").claims()
    for streams in ((silent, stream), (silent, silent)):
        with LiveProgress(streams, 2) as progress:
            progress.show(first.name)
            progress.finish(examine(first))
            progress.show(second.name)
    assert "rev-one [subtle], 1 confirmed" in stream.getvalue()
    assert "1/2" in stream.getvalue()
    assert silent.getvalue() == ""


def test_outcomes_are_all_known_to_the_table() -> None:
    claim = toy("rev-one").claims()[0]
    rows = result_rows([without_verdict(claim, outcome) for outcome in OUTCOMES])
    assert [row[4] for row in rows] == list(OUTCOMES)


# Wrong siblings


def test_mutants_are_refuted(toys: dict[str, Identity], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--mutants"]) == 0
    out = capsys.readouterr().out
    assert rows_of(out)["rev-one [subtle: off by two]"][3] == "refuted"
    assert "12 wrong siblings refuted, 0 of them at a finer tolerance; 0 in settings that are blind to them" in out


def test_mutants_below_resolution_and_blind_settings(
    toys: dict[str, Identity], capsys: pytest.CaptureFixture[str]
) -> None:
    slight = Sibling("off by a little", 1 + 5e-5, below_tolerance={"blatant": 5e-5, "subtle": 5e-5})
    unseen = Sibling("in a term that vanishes", 1.0, below_tolerance={"subtle": 0.0}, only=("subtle",))
    toys["rev-one"] = replace(toys["rev-one"], siblings=(slight, unseen))
    assert cli.main(["verify", "--mutants", "rev-one"]) == 0
    out = capsys.readouterr().out
    assert rows_of(out)["rev-one [blatant: off by a little]"][2:4] == ["2.5e-05", "refuted"]
    assert "2 wrong siblings refuted, 2 of them at a finer tolerance; 1 in settings that are blind to them" in out


def test_a_mutant_that_survives_is_shown(toys: dict[str, Identity], capsys: pytest.CaptureFixture[str]) -> None:
    toys["pf-one"] = replace(toys["pf-one"], siblings=(Sibling("right after all", 1.0),))
    assert cli.main(["verify", "--mutants", "pf-*"]) == 1
    out = capsys.readouterr().out
    assert "pf-one [subtle: right after all]\n  right after all\n  CONFIRMED" in out
    assert "2 not refuted" in out
