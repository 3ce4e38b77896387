"""The catalogue of operations, their one dispatcher, and ``Kit``."""
