"""A witness of logs as a server of its own (C2SP tlog-witness)."""
