"""Damage files of every kind, by one bit or by cutting them off, and read them: an error of one line, or the same.

``make fuzz`` does it 2,000 times; it ends with 1 if anything else comes of a file: a traceback, a program that hangs,
another result. The last may come of another bit where a format has no checksum (``OPEN``): nobody could tell.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_files import OPEN, SEALED, Make
from scans import sitk

from ufc_monai.base.errors import InputError

LIMIT = 20
"""Seconds in which a file has to be read."""
REFUSED, SAME, OTHER, CRASH, HANG = OUTCOMES = ("refused", "same", "other", "traceback", "hangs")


def damaged(sound: bytes, cut: bool, drawn: random.Random) -> bytes:
    """The end of a file is missing, or one bit is another."""
    place = drawn.randrange(len(sound))
    if cut:
        return sound[:place]
    return sound[:place] + bytes([sound[place] ^ 1 << drawn.randrange(8)]) + sound[place + 1 :]


def digest(value: Any) -> str:
    """What tells two results apart."""
    if isinstance(value, torch.Tensor):
        array = value.detach().as_subclass(torch.Tensor).numpy()
        place = getattr(value, "affine", None)
        return digest([array, None if place is None else place.numpy().round(6)])
    if isinstance(value, np.ndarray):
        return hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()
    if isinstance(value, dict):
        return digest([[key, digest(value[key])] for key in sorted(value)])
    if isinstance(value, list | tuple):
        return hashlib.sha256("".join(map(digest, value)).encode()).hexdigest()
    return hashlib.sha256(repr(value).encode()).hexdigest()


def outcome(read: Callable[[], Any], sound: str) -> tuple[str, str]:
    """What comes of reading a file, in a process of its own; and what was said."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        os.close(out)
        signal.alarm(LIMIT)
        os.write(into, json.dumps(tried(read, sound)).encode())
        os._exit(0)
    os.close(into)
    with open(out, "rb") as said:
        answer = said.read()
    _, status = os.waitpid(child, 0)
    if answer:
        found, text = json.loads(answer)
        return found, text
    return (HANG, "") if os.WTERMSIG(status) == signal.SIGALRM else (CRASH, f"signal {os.WTERMSIG(status)}")


def tried(read: Callable[[], Any], sound: str) -> tuple[str, str]:
    """The same in this process."""
    try:
        found = digest(read())
    except InputError as e:
        lines = str(e).splitlines()
        return (REFUSED, str(e)[:300]) if len(lines) <= 2 and len(str(e)) < 1000 else (CRASH, f"long: {e}"[:600])
    except BaseException as e:
        return CRASH, f"{type(e).__name__}: {e}"[:600]
    return (SAME, "") if found == sound else (OTHER, "")


def fuzz(changes: int, seed: int, kinds: dict[str, Make], say: Callable[[str], object]) -> int:
    """Damage files of some kinds; how many outcomes break what is promised."""
    drawn, wrong, total = random.Random(seed), 0, Counter[str]()
    for n, (kind, make) in enumerate(kinds.items()):
        counts = Counter[str]()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path, read = make(folder)
            sound, written = digest(read()), path.read_bytes()
            assert outcome(read, sound) == (SAME, ""), kind
            for i in range(changes * (n + 1) // len(kinds) - changes * n // len(kinds)):
                path.write_bytes(damaged(written, cut := i % 4 == 0, drawn))
                found, text = outcome(read, sound)
                counts[found] += 1
                if found in (CRASH, HANG) or (found == OTHER and (cut or kind in SEALED)):
                    wrong += 1
                    say(f"{kind}: {found}{', cut off' if cut else ''}: {text}")
        total += counts
        say(f"{kind:34}" + "".join(f"{counts[o]:>5} {o}" for o in OUTCOMES if counts[o]))
    say(f"{'all':34}" + "".join(f"{total[o]:>5} {o}" for o in OUTCOMES if total[o]))
    return wrong


def main() -> int:
    """Damage and read; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only kinds with this in their names")
    given = parser.parse_args()
    kinds = {kind: make for kind, make in (SEALED | OPEN).items() if (given.kind or "") in kind}
    quiet()
    return int(fuzz(given.changes, given.seed, kinds, lambda line: sys.stdout.write(line + "\n")) > 0)


def quiet() -> None:
    """Libraries say much of damaged files."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sitk.ProcessObject.GlobalWarningDisplayOff()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"


if __name__ == "__main__":
    sys.exit(main())
