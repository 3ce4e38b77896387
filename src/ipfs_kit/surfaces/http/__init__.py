"""The HTTP surface: one ASGI application on which routes are mounted."""
