"""Log lines: secrets taken out, files that rotate, readers that follow, and a handler that writes to a stream."""
