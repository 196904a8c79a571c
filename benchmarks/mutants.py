"""Put small errors into the source, one at a time: does a test fail?

``python benchmarks/mutants.py --mutants 200`` draws as many changes of what functions of the losses, the clustering,
the transfer of weights, the split and self-training do, evenly from these rooms, and runs the quick tests that mirror
each: those alone that were seen to reach the changed line, the shortest first. A process that has imported everything
and run all tests of the room is forked for each change (Linux), which exists in its memory alone: programs that a test
starts do not have it, nor have fixtures of the session. Verdicts go to ``--verdicts``, with which a run goes on later.
Texts, messages, what is logged, annotations, defaults and what modules hold outside functions are left alone.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROOMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "losses": ("losses/*.py", ("tests/losses",)),
    "split": ("data/split.py", ("tests/data/test_split.py", "tests/data/test_official_split.py")),
    "transfer": ("artifacts/transfer.py", ("tests/artifacts/test_transfer.py",)),
    "clustering": ("clustering/*.py", ("tests/clustering",)),
    "self-training": ("self_training/*.py", ("tests/self_training",)),
}
"""Modules below ``ufc_monai``, and the tests that mirror them; doctests of the modules run, too."""
PYTEST = ("-p", "no:cacheprovider", "-q", "-W", "ignore::pytest.PytestAssertRewriteWarning")
SAYS = {"debug", "info", "warning", "error", "log", "warn", "tqdm", "set_postfix", "set_postfix_str", "getLogger"}
"""Calls that tell a person something."""
CPU_SECONDS = 20
"""What tests may take on top of three times what they take with nothing changed, until it is a hang."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


class Mutant(NamedTuple):
    """One change: bytes of a file, and what takes their place."""

    room: str
    path: str
    line: int
    start: int
    stop: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """What it is known by, from one run to the next, as long as the file stays."""
        sha256 = hashlib.sha256((ROOT / self.path).read_bytes()).hexdigest()
        return f"{self.path}:{self.line}: {self.before} -> {self.after} ({sha256[:8]} {self.start})"


def changes(node: ast.AST) -> Iterator[ast.AST | str]:
    """What may stand in a node's place."""
    match node:
        case ast.Compare():
            for k, op in enumerate(node.ops):
                swapped = [SWAPS[type(op)]() if i == k else other for i, other in enumerate(node.ops)]
                yield ast.Compare(node.left, swapped, node.comparators)  # type: ignore[arg-type]
        case ast.BoolOp():
            yield ast.BoolOp(SWAPS[type(node.op)](), node.values)  # type: ignore[arg-type]
        case ast.BinOp() if type(node.op) in SWAPS:
            yield ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield from (ast.Constant(node.value + step) for step in (1, -1))
        case ast.Call(args=[first, second, *rest]) if not any(isinstance(a, ast.Starred) for a in node.args):
            yield ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return None"
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"
        case ast.Raise() | ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.Expr(value=ast.Call() | ast.Yield()):
            yield "__class__" if "super()" in ast.unparse(node) else "pass"  # the function's cells have to stay


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that compute: no annotations, decorators or texts."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (isinstance(node, ast.Raise) and name == "exc"):
            continue
        yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))


def tells(node: ast.AST) -> bool:
    """Whether a node only tells a person something, or has nothing that computes."""
    if isinstance(node, ast.Expr):
        node = node.value
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in SAYS or isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def mutants_of(room: str, path: Path) -> list[Mutant]:
    """All changes of a module."""
    source = path.read_bytes()
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    found = []

    def visit(node: ast.AST, inside: bool = False, tested: bool = False) -> None:
        if tells(node):
            return
        new = list(changes(node)) if inside else []
        if inside and tested and isinstance(node, ast.Name | ast.Attribute | ast.Call):
            new.append(ast.UnaryOp(ast.Not(), node))
        for change in new:
            assert isinstance(node, ast.expr | ast.stmt)
            start = begins[node.lineno - 1] + node.col_offset
            stop = begins[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            after = change if isinstance(change, str) else f"({ast.unparse(ast.fix_missing_locations(change))})"
            before = " ".join(source[start:stop].decode().split())
            found.append(Mutant(room, path.relative_to(ROOT).as_posix(), node.lineno, start, stop, before, after))
        function = isinstance(node, ast.FunctionDef)
        for part in node.body if function else children(node):
            visit(part, inside or function, isinstance(node, ast.If | ast.IfExp | ast.While) and part is node.test)

    visit(ast.parse(source))
    return found


def drawn(room: str, number: int, seed: int) -> list[Mutant]:
    """Changes of a room, at random. A longer draw begins with a shorter one."""
    found = [m for path in sorted((ROOT / "ufc_monai").glob(ROOMS[room][0])) for m in mutants_of(room, path)]
    random.Random(f"{seed} {room}").shuffle(found)
    return found[:number]


def functions_of(code: CodeType) -> Iterator[CodeType]:
    """The functions of a module and of its classes, in order."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & 1:  # CO_OPTIMIZED: no class
                yield part
            else:
                yield from functions_of(part)


def put_in(mutant: Mutant) -> None:
    """Change the functions of a module that is imported already."""
    file = ROOT / mutant.path
    source = file.read_bytes()
    changed = source[: mutant.start] + mutant.after.encode() + source[mutant.stop :]
    old, new = (list(functions_of(compile(text, file, "exec"))) for text in (source, changed))
    instead = {(o.co_qualname, o.co_firstlineno): n for o, n in zip(old, new, strict=True)}
    for function in [f for f in gc.get_objects() if type(f) is FunctionType]:
        if function.__code__.co_filename == str(file):
            key = (function.__code__.co_qualname, function.__code__.co_firstlineno)
            function.__code__ = instead.get(key, function.__code__)


def in_a_fork(work: Callable[[], str], cpu: float) -> str | None:
    """What some work in a forked process says; nothing if it dies or takes too long."""
    reading, writing = os.pipe()
    if not (process := os.fork()):
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 2))
        signal.alarm(int(20 * cpu))
        try:
            os.write(writing, f"{work()}\n".encode())
        except BaseException as e:
            os.write(writing, f"died of {type(e).__name__}: {e}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        os.waitpid(process, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        return said.read().strip() or None


class Room:
    """A plugin of pytest that runs the tests of a room, and then those that reach each change."""

    def __init__(self, mutants: Sequence[Mutant], tell: Callable[[Mutant, dict[str, Any]], None]) -> None:
        self.mutants, self.tell = mutants, tell
        self.files = {str(ROOT / mutant.path) for mutant in mutants}
        self.reached: defaultdict[tuple[str, int], set[pytest.Item]] = defaultdict(set)
        self.seconds: dict[pytest.Item, float] = {}
        self.item: pytest.Item | None = None
        self.failed = ""

    def _call(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        assert self.item
        self.reached[frame.f_code.co_filename, frame.f_lineno].add(self.item)
        return self._line

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the first test that fails."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all with nothing changed, twice, then some for each change."""
        names = {item: dict(item.dtest.globs) for item in session.items if isinstance(item, pytest.DoctestItem)}
        threading.settrace(self._call)
        for item, after in zip(session.items, [*session.items[1:], session.items[0]], strict=True):
            self.item, began = item, time.process_time()
            sys.settrace(self._call)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
            sys.settrace(None)
            self.seconds[item] = time.process_time() - began
        threading.settrace(None)  # type: ignore[arg-type]
        for item, known in names.items():  # that are gone after the first time
            item.dtest.globs.update(known)
        if self.failed or (again := in_a_fork(lambda: self._run(None, session.items), 100_000)) != "survived":
            raise SystemExit(f"{self.failed or again} fails with nothing changed")
        for mutant in self.mutants:
            self._judge(mutant)
        return True

    def _judge(self, mutant: Mutant) -> None:
        tests = sorted(self.reached[str(ROOT / mutant.path), mutant.line], key=self.seconds.__getitem__)
        allowed, began = CPU_SECONDS + 3 * sum(map(self.seconds.__getitem__, tests)), time.monotonic()
        by = in_a_fork(lambda: self._run(mutant, tests), allowed) if tests else "survived"
        said = "hang" if not by else by if by == "survived" else "no verdict" if by.startswith("died") else "killed"
        facts = {"verdict": said, "by": by, "tests": len(tests), "seconds": round(time.monotonic() - began, 1)}
        self.tell(mutant, facts)

    def _run(self, mutant: Mutant | None, tests: Sequence[pytest.Item]) -> str:
        if mutant:
            put_in(mutant)
        tests[0].session._setupstate.teardown_exact(tests[0])
        for test, after in zip(tests, [*tests[1:], None], strict=True):
            test.ihook.pytest_runtest_protocol(item=test, nextitem=after)
            if self.failed:
                return self.failed
        return "survived"


def judge(room: str, mutants: Sequence[Mutant], tell: Callable[[Mutant, dict[str, Any]], None]) -> None:
    """Have the tests of a room judge changes, in a process of its own."""
    modules, tests = ROOMS[room]
    files = [str(path) for path in sorted((ROOT / "ufc_monai").glob(modules))]
    with tempfile.TemporaryDirectory() as folder:

        def run() -> str:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            code = pytest.main([*PYTEST, "--basetemp", f"{folder}/t", *files, *tests], plugins=[Room(mutants, tell)])
            return f"exit code {int(code)}"

        if (said := in_a_fork(run, 100_000)) != "exit code 0":
            raise SystemExit(f"{room}: {said or 'the tests fail with nothing changed'}")


def main() -> None:
    """Draw, judge what has no verdict yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verdicts", type=Path, default=Path("mutants.jsonl"))
    asked = parser.parse_args()
    verdicts = asked.verdicts.absolute()
    os.chdir(ROOT)

    def known() -> dict[str, str]:
        lines = verdicts.read_text(encoding="utf-8").splitlines() if verdicts.exists() else []
        return {line["key"]: line["verdict"] for line in map(json.loads, lines)}

    def tell(mutant: Mutant, facts: dict[str, Any]) -> None:
        with open(verdicts, "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": mutant.key, **facts}) + "\n")

    chosen = {room: drawn(room, asked.mutants // len(ROOMS), asked.seed) for room in ROOMS}
    for room, mutants in chosen.items():
        if left := [mutant for mutant in mutants if mutant.key not in known()]:
            judge(room, left, tell)
    verdict = known()
    for room, mutants in chosen.items():
        counts = Counter(verdict[mutant.key] for mutant in mutants)
        shown = ", ".join(f"{n} {what}" for what, n in counts.items())
        sys.stdout.write(f"{room:14} {len(drawn(room, 10**9, 0)):5} changes, {counts.total()} drawn: {shown}\n")
    for mutant in [m for mutants in chosen.values() for m in mutants if verdict[m.key] == "survived"]:
        sys.stdout.write(f"survived: {mutant.key}\n")


if __name__ == "__main__":
    main()
