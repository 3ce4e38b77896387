"""The Model Context Protocol surface: operations as tools, content as resources."""
