"""Surfaces: parse, call one operation, render."""
