"""The project's speed figures, each measured beside its peer or limit in the same run; ``docs/guide/benchmarks.md``."""
