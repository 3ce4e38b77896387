"""Placeholder until generated."""


class Namespaces:
    """x."""
