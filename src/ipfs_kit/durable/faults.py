"""The one seam where tests make durable calls fail or kill the process.

``hook`` is ``None`` in production, so each durable call pays one comparison. When set, it is called as
``hook(operation, path)`` before the call. It may raise ``OSError`` (the call then fails as if the operating system had
refused it) or end the process. SQLite's own writes, syncs and truncations reach the hook only through state files
opened while a hook was installed.
"""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str, str], None] | None = None
