"""The published MCP modules."""
