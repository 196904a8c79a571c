"""Bundles on their way to others: metadata, model cards, packages."""
