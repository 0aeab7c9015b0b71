"""The command line: `fpsolve verify`, `fpsolve list`, `fpsolve explain` and `fpsolve bench`."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import fpsolve
from fpsolve import catalogue
from fpsolve.catalogue.identity import Identity
from fpsolve.errors import ClaimError, FpsolveError, InputError, check_choice, check_count, check_number
from fpsolve.particles.workers import interrupted as run_was_interrupted
from fpsolve.report.bench import PROBLEMS, bench_record, draw, run_problem, schemes_in_file
from fpsolve.report.explanation import LIST_COLUMNS, explain_identity, explanations, list_rows
from fpsolve.report.mutants import mutants, mutants_line, survivors
from fpsolve.report.record import as_json, check_destination, plain, record, write_whole
from fpsolve.report.result import ERROR, NOT_RUN, Result, examine, without_verdict
from fpsolve.report.table import COLUMNS, LiveProgress, print_table, result_rows, summary_line
from fpsolve.report.work_precision import COLUMNS as BENCH_COLUMNS
from fpsolve.verdict.claims import Claim, claims_in_file
from fpsolve.verdict.verdict import CONFIRMED, INCONCLUSIVE, REFUTED

CONFIRMED_STATUS, REFUTED_STATUS, INCONCLUSIVE_STATUS, ERROR_STATUS, INTERRUPTED_STATUS = 0, 1, 2, 3, 130
CATALOGUE, MUTANTS = "", "mutants"  # sources of claims that are in no file


@dataclass(frozen=True)
class Job:
    """A claim and where it came from, so that another process can find it again by name."""

    source: str
    claim: Claim

    @property
    def key(self) -> tuple[str, str, str]:
        """Source, id and setting."""
        return self.source, self.claim.id, self.claim.setting


Options = dict[str, Any]  # tol and seed of the command line; None where not given
Examined = Generator[tuple[Job, Result], None, None]


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors have the exit status 3; 2 means inconclusive."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ERROR_STATUS, f"{self.prog}: {message}\n")


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="fpsolve", description="Confirm or refute derivations about diffusions, in one dimension.")
    parser.add_argument("--version", action="version", version=f"fpsolve {fpsolve.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{verify,list,explain,bench}")

    verify = commands.add_parser(
        "verify",
        help="examine identities of the catalogue, or the claims in a file",
        epilog="Exit status: 0 all confirmed, 1 something refuted, 2 something inconclusive, 3 bad input or claim.",
    )
    verify.add_argument(
        "targets",
        nargs="*",
        metavar="ID|GLOB|FILE.py[::CLAIM]",
        help="identities, patterns such as 'rev-*', or files of claims; the whole catalogue unless given",
    )
    verify.add_argument(
        "--tol", type=float, metavar="X", help="tolerance of every claim (each has its own unless given)"
    )
    verify.add_argument(
        "--seed", type=int, metavar="N", help="seed of the random streams (0 unless a claim has its own)"
    )
    verify.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes; worth their start-up for many long claims (1 unless given: simulations use all cores anyway)",
    )
    verify.add_argument(
        "--mutants", action="store_true", help="examine the wrong siblings of the identities, which must all be refuted"
    )
    verify.add_argument("--json", metavar="FILE", help="write the verdicts to this file too; - is standard output")
    verify.set_defaults(run=run_verify)

    listing = commands.add_parser("list", help="list the identities of the catalogue")
    listing.add_argument("targets", nargs="*", metavar="ID|GLOB", help="which ones; all unless given")
    listing.set_defaults(run=run_list)

    explain = commands.add_parser(
        "explain", help="show an identity: statement, conditions, source, routes, wrong siblings"
    )
    explain.add_argument("id", metavar="ID")
    explain.set_defaults(run=run_explain)

    bench = commands.add_parser("bench", help="work against error of the schemes in a file, beside the built-in ones")
    bench.add_argument("file", metavar="FILE.py", help="a file with schemes: step functions under @fps.scheme")
    bench.add_argument("--paths", type=int, default=2**14, metavar="N", help="paths of every run (16384 unless given)")
    bench.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the paths (0 unless given)")
    bench.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    bench.add_argument("--picture", metavar="FILE.png", help="draw work against error, with the floors")
    bench.set_defaults(run=run_bench)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process unless given.

    Returns
    -------
    int
        0 all confirmed, 1 something refuted, 2 something inconclusive (and nothing refuted), 3 bad input or a claim
        that raised (which wins over 1 and 2), 130 interrupted.

    Raises
    ------
    SystemExit
        From the parser: for --help and --version (0) and for arguments that it does not understand (3).
    """
    options = build_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except FpsolveError as problem:
        print(f"fpsolve: {problem}", file=sys.stderr)
        return ERROR_STATUS
    except KeyboardInterrupt:
        print("fpsolve: interrupted", file=sys.stderr)
        return INTERRUPTED_STATUS


def run_list(options: argparse.Namespace) -> int:
    """Print the table of identities."""
    print_table(sys.stdout, LIST_COLUMNS, list_rows(select_identities(options.targets)))
    return CONFIRMED_STATUS


def run_explain(options: argparse.Namespace) -> int:
    """Print what the catalogue knows about one identity."""
    known = catalogue.IDENTITIES
    print(explain_identity(known[check_choice("an identity", options.id, known)]))
    return CONFIRMED_STATUS


def run_bench(options: argparse.Namespace) -> int:
    """Print work and errors of the schemes in a file, problem by problem."""
    check_count("--paths", options.paths, at_least=2)
    check_count("--seed", options.seed, at_least=0)
    places = {name: None if file is None else check_destination(file) for name, file in vars(options).items()
              if name in ("json", "picture")}  # fmt: skip
    own = load_file(schemes_in_file, options.file)
    results = {}
    for problem in PROBLEMS:
        if not any(problem.takes(scheme) for scheme in own):
            print(f"{problem.name}: none of these schemes takes its noise\n")
            continue
        results[problem.name] = found = run_problem(problem, own, n_paths=options.paths, seed=options.seed)
        print(f"{problem.name}: {found.title}")
        print_table(sys.stdout, BENCH_COLUMNS, found.cells())
        print(f"{found.floor_line()}\n", flush=True)
    if not results:
        raise InputError("bench needs schemes for noise", options.file, "use fps.check_order for ODE schemes")
    if places["json"] is not None:
        write_whole(places["json"], as_json(plain({"fpsolve": fpsolve.__version__, **bench_record(results)})))
    if places["picture"] is not None:
        draw(results, places["picture"])
    return CONFIRMED_STATUS


def run_verify(options: argparse.Namespace) -> int:
    """Examine the chosen claims and print the table, the explanations and the record."""
    if options.tol is not None:
        check_number("--tol", options.tol, above=0.0)
    if options.seed is not None:
        check_count("--seed", options.seed, at_least=0)
    check_count("--workers", options.workers)
    to_stdout = options.json == "-"
    destination = None if options.json is None or to_stdout else check_destination(options.json)
    report = sys.stderr if to_stdout else sys.stdout
    start = time.perf_counter()
    identities = select_identities(options.targets) if options.mutants else []
    jobs = [Job(MUTANTS, claim) for identity in identities for claim in mutants(identity)]
    jobs = jobs if options.mutants else select_jobs(options.targets)
    for note in unused_options(jobs, tol=options.tol, seed=options.seed):
        print(note, file=sys.stderr)
    results, interrupted = run_jobs(jobs, options, LiveProgress((report, sys.stderr), len(jobs)))
    seconds = time.perf_counter() - start
    shown, line, expected = results, summary_line(results, seconds), CONFIRMED
    if options.mutants:
        shown, line, expected = survivors(results, identities), mutants_line(results, identities, seconds), REFUTED
    status = status_of(shown) or (REFUTED_STATUS if options.mutants and shown else CONFIRMED_STATUS)
    status = INTERRUPTED_STATUS if interrupted else status

    print_table(report, COLUMNS, result_rows(results))
    for text in (*explanations(shown, expected), line):
        print(f"\n{text}", file=report, flush=True)
    if options.json is not None:
        content = record(results, fpsolve=fpsolve.__version__, seed=options.seed, tol=options.tol, exit_status=status)
        if destination is None:
            print(as_json(content), end="", flush=True)
        else:
            write_whole(destination, as_json(content))
    return status


def status_of(results: Sequence[Result]) -> int:
    """Exit status of a finished run: an error wins over a refutation, which wins over an inconclusive claim."""
    outcomes = {result.outcome for result in results}
    order = ((ERROR, ERROR_STATUS), (REFUTED, REFUTED_STATUS), (INCONCLUSIVE, INCONCLUSIVE_STATUS))
    return next((status for outcome, status in order if outcome in outcomes), CONFIRMED_STATUS)


def matching(what: str, pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that a name or a pattern selects; raise UnknownName with close matches if there are none."""
    found = [name for name in names if name == pattern] or fnmatch.filter(names, pattern)
    return found or [check_choice(what, pattern, names)]


def select_identities(targets: Sequence[str]) -> list[Identity]:
    """Return the identities that ids and patterns select, each once; all without any."""
    known = list(catalogue.IDENTITIES)
    ids = [name for target in targets for name in matching("an identity", target, known)] if targets else known
    return [catalogue.IDENTITIES[name] for name in dict.fromkeys(ids)]


def select_jobs(targets: Sequence[str]) -> list[Job]:
    """Return the claims that the arguments select, each once, in the order of the arguments."""
    jobs: list[Job] = []
    for target in targets or ("*",):
        file, _, name = target.partition("::")
        if file.endswith(".py") or os.sep in file or (Path(file).is_file() and file not in catalogue.IDENTITIES):
            source = str(Path(file).resolve())
            claims = load_file(claims_in_file, file)
            if name:
                ids = matching(f"a claim of {file}", name, [claim.id for claim in claims])
                claims = [claim for claim in claims if claim.id in ids]
            jobs += [Job(source, claim) for claim in claims]
        else:
            jobs += [Job(CATALOGUE, claim) for identity in select_identities([target]) for claim in identity.claims()]
    return list({job.key: job for job in jobs}.values())


def load_file(read: Callable[[str], list[Any]], file: str) -> list[Any]:
    """Import a user's file; standard output is for results, whatever the file prints."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return read(file)
    except SystemExit as stop:
        raise ClaimError(
            f"a claims file must not end the program when it is imported; {file} did. "
            "Fix: put what runs it under `if __name__ == '__main__':`."
        ) from stop


def unused_options(jobs: Sequence[Job], **given: Any) -> list[str]:
    """Say which claims do not take an option that was given."""
    notes = []
    for option in (name for name, value in given.items() if value is not None):
        deaf = [job.claim.id for job in jobs if option not in signature(job.claim.function).parameters]
        if deaf:
            notes.append(
                f"fpsolve: --{option} does not reach {', '.join(deaf)}: the function has no parameter {option}"
            )
    return notes


def run_jobs(jobs: Sequence[Job], options: argparse.Namespace, progress: LiveProgress) -> tuple[list[Result], bool]:
    """Return the results in the order of the jobs, and whether the user interrupted."""
    settings = {"tol": options.tol, "seed": options.seed}
    workers = min(options.workers, len(jobs))
    stream = run_here(jobs, settings, progress) if workers <= 1 else run_in_processes(jobs, settings, workers, progress)
    done: dict[tuple[str, str, str], Result] = {}
    interrupted = False
    try:
        with progress, contextlib.closing(stream):
            for job, result in stream:
                done[job.key] = result
                progress.finish(result)
    except KeyboardInterrupt:
        interrupted = True
    return [done.get(job.key) or without_verdict(job.claim, NOT_RUN) for job in jobs], interrupted


def run_here(jobs: Sequence[Job], settings: Options, progress: LiveProgress) -> Examined:
    """Examine one claim after the other in this process."""
    for job in jobs:
        progress.show(job.claim.name)
        run_was_interrupted.clear()
        with contextlib.redirect_stdout(sys.stderr):
            result = examine(job.claim, **settings)
        if run_was_interrupted.is_set():  # its verdict rests on fewer paths than it asked for
            raise KeyboardInterrupt
        yield job, result


def run_in_processes(jobs: Sequence[Job], settings: Options, workers: int, progress: LiveProgress) -> Examined:
    """Examine claims in fresh processes, which find them again by name; yield each as it finishes."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker)
    finished = False
    try:
        with without_interrupts():
            futures = {pool.submit(examine_by_name, *job.key, settings): job for job in jobs}
        progress.show(f"{workers} processes")
        for future in as_completed(futures):
            yield futures[future], result_of(future, futures[future])
        finished = True
    finally:
        if not finished:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
        pool.shutdown(cancel_futures=True)


def result_of(future: Future[Result], job: Job) -> Result:
    """Return the result of a worker, also when the worker died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return without_verdict(
            job.claim, ERROR, "a worker process died; run the claim alone, with --workers 1, to see why"
        )
    except FpsolveError as problem:
        return without_verdict(job.claim, ERROR, f"not found again in a worker process: {problem}")


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while processes are started: they inherit it, so that only this process answers to Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be set, none arrives either
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def prepare_worker() -> None:
    """Leave standard output to the parent, and do not outlive it."""
    sys.stdout = sys.stderr
    threading.Thread(target=leave_with_parent, daemon=True).start()


def leave_with_parent() -> None:
    """End this process when the parent has ended, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(ERROR_STATUS)


def examine_by_name(source: str, name: str, setting: str, settings: Options) -> Result:
    """Find a claim by name, in the catalogue or in a file, and examine it."""
    if source in (CATALOGUE, MUTANTS):
        identity = catalogue.IDENTITIES[name]
        claims = identity.claims() if source == CATALOGUE else mutants(identity)
    else:
        claims = claims_of_file_once(source)
    claim = next((claim for claim in claims if (claim.id, claim.setting) == (name, setting)), None)
    if claim is None:
        raise ClaimError(
            f"a claim must be there at every import; {source} had {name} only once. Fix: define it always."
        )
    return examine(claim, **settings)


@functools.cache
def claims_of_file_once(source: str) -> list[Claim]:
    """Claims of a file, imported once in each worker."""
    return load_file(claims_in_file, source)
