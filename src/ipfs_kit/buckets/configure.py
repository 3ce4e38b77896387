"""Changes of a bucket's settings; each is one row, recorded and undone like any other change."""

from __future__ import annotations

from collections.abc import Callable

from ipfs_kit.buckets import guards
from ipfs_kit.buckets.lifecycle import LifecycleOps
from ipfs_kit.buckets.settings import Settings
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Space
from ipfs_kit.buckets.workspace import op_index_of
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import BucketNotFound, Conflict
from ipfs_kit.ledger import Effect, Outcome


class SettingsOps(LifecycleOps):
    """Quota, protected branches and rules."""

    def settings(self, bucket: str) -> Settings:
        """The settings of a bucket."""
        return guards.settings_now(self.state.query, self.space(self.row(bucket)))

    def used(self, bucket: str, session: str | None = None) -> tuple[int, int]:
        """Files and content bytes a session holds now."""
        workspace = self.workspace(bucket, session)
        with workspace.lock:
            workspace.tree()
            return workspace.totals()

    def change_settings(self, bucket: str, change: Callable[[Settings], Settings]) -> Effect:
        """Change a bucket's settings. Value: the new :class:`Settings`.

        Args:
            bucket: The bucket.
            change: Gives the new settings of the present ones; runs under the lock, raises to refuse.
        """
        row = self.row(bucket)
        space = self.space(row)

        def run(tx: Tx) -> Outcome:
            if not tx.execute("SELECT 1 FROM buckets WHERE id=? AND dropped_op IS NULL", (row.id,)):
                raise BucketNotFound(f"no bucket named {bucket!r}", bucket=bucket)
            return self._put(tx, space, change(guards.settings_now(tx.execute, space)))

        return run

    def undo_settings(self, op_index: int) -> Effect | None:
        """Undo of a change of settings: what held before holds again; None when the op made none.

        Raises:
            Conflict: (from the effect) they were changed again since.
        """
        rows = self.state.query("SELECT bucket FROM bucket_settings WHERE op_index=?", (op_index,))
        if not rows:
            return None
        found = self.state.query(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id=? AND dropped_op IS NULL",  # noqa: S608 - constant text
            (rows[0][0],),
        )
        if not found:
            raise Conflict(f"the bucket that op {op_index} changed was dropped; undo that first")
        space = self.space(BucketRow.of(found[0]))

        def run(tx: Tx) -> Outcome:
            if guards.settings_now(tx.execute, space).op_index != op_index:
                raise Conflict(
                    f"the settings of bucket {space.name!r} were changed since op {op_index}; undo that first"
                )
            before = tx.execute(
                "SELECT op_index, value FROM bucket_settings WHERE bucket=? AND op_index<? ORDER BY op_index DESC LIMIT 1",
                (space.row.id, op_index),
            )
            was = Settings.decode(space.unseal(before[0][1]), before[0][0]) if before else Settings()
            outcome = self._put(tx, space, was)
            outcome.value = []
            return outcome

        return run

    def _put(self, tx: Tx, space: Space, settings: Settings) -> Outcome:
        index = op_index_of(tx)
        value = space.seal(settings.encode())
        row = (space.row.id, index, tx.began_ns, value)
        tx.execute("INSERT INTO bucket_settings(bucket, op_index, time_ns, value) VALUES(?,?,?,?)", row)
        effect = ["settings", space.row.id, guards.settings_digest(row), guards.told_settings(space, settings)]
        return Outcome(value=settings.at(index), effect=effect, target=space.name)
