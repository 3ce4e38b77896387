"""The declarations of all operations, one module a toolset."""
