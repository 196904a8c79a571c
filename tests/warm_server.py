"""Python that has imported already: it forks a process for each command that ``warm_client.py`` hands over.

Importing PyTorch and MONAI takes 5 seconds, the small trainings of a test take one. A forked process has its own
process group, the client's folder, environment, arguments and open files, and ends as any other.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import types
import warnings
from collections.abc import Sequence

BEFORE: tuple[str, ...] = (
    "monai.bundle",
    "monai.engines",
    "monai.handlers",
    "monai.inferers",
    "monai.networks.nets",
    "monai.optimizers",
)
BEFORE += ("fire", "kornia", "matplotlib.pyplot", "nibabel", "pandas", "scipy.stats", "SimpleITK", "sklearn.cluster")
ABOVE = 200
"""Descriptors from here on are nobody's."""


def import_everything() -> None:
    """All that a stage may import, as far as it is installed."""
    warnings.simplefilter("ignore")
    ours = [m.name for m in pkgutil.walk_packages(importlib.import_module("ufc_monai").__path__, "ufc_monai.")]
    for name in (*BEFORE, *ours):
        if not name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    warnings.resetwarnings()
    gc.collect()
    gc.freeze()


def serve(path: str) -> list[str]:
    """Wait for commands until our standard input ends; returns in the forked processes alone, with their words."""
    # clients that come while we import wait
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        import_everything()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                os._exit(0)
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    listener.close()
                    return attend(connection)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def attend(connection: socket.socket) -> list[str]:
    """Fork the command's process, hand it its client's signals and the client its exit code."""
    _, files, _, _ = socket.recv_fds(connection, 1, ABOVE)
    asked = b""
    while not asked.endswith(b"\n"):
        asked += connection.recv(1 << 16)
    request = json.loads(asked)
    process = os.fork()
    if not process:
        connection.close()
        return become(files, **request)
    for file in files:
        os.close(file)
    end, client = os.pidfd_open(process), connection.fileno()
    while end not in select.select([end, client], [], [])[0]:
        number = connection.recv(1)  # nothing: the client is gone
        with contextlib.suppress(ProcessLookupError):
            (os.kill if number else os.killpg)(process, ord(number or bytes([signal.SIGKILL])))
        if not number:
            break
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(
    files: Sequence[int], numbers: Sequence[int], words: list[str], folder: str, environment: dict[str, str]
) -> list[str]:
    """Take over what the client has."""
    os.setpgid(0, 0)
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, ABOVE) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place not in sys.path]
    sys.orig_argv = [sys.executable, *words]
    return words


def run(words: list[str]) -> None:
    """What ``python`` does with these words."""
    while words[0] not in ("-c", "-m") and words[0].startswith("-"):  # of the others only warnings matter here
        flag = words.pop(0)
        if flag.startswith("-W"):
            warnings._processoptions([flag[2:] or words.pop(0)])  # type: ignore[attr-defined]
    kind, sys.argv = words[0], words
    if kind == "-c":
        sys.path[0] = ""
        code = sys.argv.pop(1)
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(module))
    elif kind == "-m":
        sys.path[0] = os.getcwd()
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(kind)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    _, place, sys.executable = sys.argv
    run(serve(place))
