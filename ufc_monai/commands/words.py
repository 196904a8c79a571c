"""Words of the command line as values."""

from __future__ import annotations

import argparse
import ast
from typing import Any

__all__ = ["literal", "override", "separated"]


def separated(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def literal(text: str) -> Any:
    """A number, list or mapping as one writes it in Python; anything else stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def override(text: str) -> tuple[str, str, Any]:
    """Bundle, key and value of ``BUNDLE.KEY=VALUE``."""
    name, equals, given = text.partition("=")
    bundle, point, key = name.partition(".")
    if not (equals and point and key):
        raise argparse.ArgumentTypeError(f"expected BUNDLE.KEY=VALUE, got {text!r}")
    return bundle, key, literal(given)
