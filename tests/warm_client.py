"""Stands for ``python`` where a test is warm: hands its command to ``warm_server.py`` and ends as the command does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys


def open_files() -> list[int]:
    """What we were started with, the standard streams among it."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += [int(name)] * os.get_inheritable(int(name))
    return found


def main() -> None:
    """The words: of the socket, and behind ``python``."""
    _, path, *words = sys.argv
    numbers = open_files()
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    socket.send_fds(server, [b"x"], numbers)
    request = {"numbers": numbers, "words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
    server.sendall(json.dumps(request).encode() + b"\n")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    code = int(server.recv(10))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
