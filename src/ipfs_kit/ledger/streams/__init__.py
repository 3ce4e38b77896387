"""Streams: typed families of ops, their record types, batches and SQL views; import the module that is needed."""

EVENT_STREAMS = frozenset(
    {"audit", "alerts", "logs", "telemetry", "health", "fs_monitor", "journal", "vfs_journal", "vfs_observer"}
    | {"wal", "replication", "lifecycle"}
)
"""Names of the streams that hold events, known without loading their record types."""
