"""What watches: figures, thresholds and alerts over recorded rows; pure logic, and runners that take callables."""
