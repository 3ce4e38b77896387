"""Tabular and file datasets as versioned bucket content."""
