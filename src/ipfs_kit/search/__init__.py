"""Finding content again: full text over buckets, kept in rebuildable indexes that follow the versions."""
