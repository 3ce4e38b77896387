"""Published monitoring classes of the command server."""
