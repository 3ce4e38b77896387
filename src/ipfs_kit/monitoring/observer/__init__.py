"""Folders outside the store, compared with how they looked before: import the module that is needed."""
