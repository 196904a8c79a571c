"""How much code there is, room by room.

python benchmarks/code_lines.py
"""

from __future__ import annotations

import ast
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """Lines of a module that hold code: no docstrings, comments or blanks."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    lines = {n for token in tokens if token.type not in NO_CODE for n in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print the lines of each room of the package, of the package, and of the bundles' configurations."""
    rooms: Counter[str] = Counter()
    for path in (ROOT / "ufc_monai").rglob("*.py"):
        room = path.relative_to(ROOT / "ufc_monai").parts[0]
        rooms[room.removesuffix(".py")] += code_lines(path)
    for room, lines in rooms.most_common():
        print(f"{lines:6} {room}")
    print(f"{rooms.total():6} in all, without docstrings, comments and blanks")
    configs = (ROOT / "bundles").glob("*/configs/*.json")
    print(f"{sum(len(path.read_text(encoding='utf-8').splitlines()) for path in configs):6} lines of JSON")


if __name__ == "__main__":
    main()
