"""A content-addressed workspace whose every operation is durable, provable, queryable and undoable."""
