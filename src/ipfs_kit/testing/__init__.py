"""Conformance kits and fault injection, shipped for people who write their own backends."""
