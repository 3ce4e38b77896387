"""Streams: typed families of ops, their record types, batches and SQL views; import the module that is needed."""
