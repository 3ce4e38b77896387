"""A bucket as a mounted folder."""
