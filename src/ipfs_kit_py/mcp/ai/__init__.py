"""The published AI modules."""
