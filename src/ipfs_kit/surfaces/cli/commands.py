"""Which words of the command line call which operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ipfs_kit._dataclasses import dataclass

Pick = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the operation it calls, or how to pick one from its positional words.

    Args:
        operation: Operation name when fixed.
        pick: Chooses an operation by the positional words, for verbs that take a CID or a bucket path alike.
        choices: Every operation ``pick`` may choose.
        help: Help of a command that is no operation.
        live: Operation that ``--follow`` calls again and again.
    """

    operation: str = ""
    pick: Pick | None = None
    choices: tuple[str, ...] = ()
    help: str = ""
    live: str = ""


def _by_path(bucket_form: str, cid_form: str) -> Command:
    def pick(words: Sequence[str]) -> str:
        first = words[0] if words else ""
        # A bucket path has "BUCKET:"; a CID never has a colon.
        return bucket_form if ":" in first.partition("/")[0] else cid_form

    return Command(pick=pick, choices=(bucket_form, cid_form))


def _ls() -> Command:
    def pick(words: Sequence[str]) -> str:
        if not words:
            return "bucket.list"
        return "files.list" if ":" in words[0].partition("/")[0] else "store.ls"

    return Command(pick=pick, choices=("bucket.list", "files.list", "store.ls"))


def _named(list_form: str, create_form: str) -> Command:
    def pick(words: Sequence[str]) -> str:
        return create_form if len(words) > 1 else list_form

    return Command(pick=pick, choices=(list_form, create_form))


COMMANDS: dict[tuple[str, ...], Command] = {
    ("init",): Command("store.init"),
    ("add",): Command("store.add"),
    ("cat",): _by_path("files.read", "store.cat"),
    ("get",): _by_path("files.get", "store.get"),
    ("ls",): _ls(),
    ("info",): Command("store.info"),
    ("block", "put"): Command("block.put"),
    ("block", "get"): Command("block.get"),
    ("block", "stat"): Command("block.stat"),
    ("block", "rm"): Command("block.rm"),
    ("block", "ls"): Command("block.list"),
    ("dag", "put"): Command("dag.put"),
    ("dag", "get"): Command("dag.get"),
    ("dag", "resolve"): Command("dag.resolve"),
    ("dag", "stat"): Command("dag.stat"),
    ("cid",): Command("block.cid"),
    ("refs",): Command("dag.links"),
    ("car", "export"): Command("car.export"),
    ("car", "import"): Command("car.import"),
    ("pin", "add"): Command("pin.add"),
    ("pin", "rm"): Command("pin.rm"),
    ("pin", "ls"): Command("pin.list"),
    ("gc",): Command("store.gc"),
    ("verify",): Command("store.verify"),
    ("repair",): Command("store.repair"),
    ("bucket", "create"): Command("bucket.create"),
    ("bucket", "ls"): Command("bucket.list"),
    ("bucket", "info"): Command("bucket.info"),
    ("bucket", "catalogue"): Command("bucket.catalogue"),
    ("bucket", "rm"): Command("bucket.delete"),
    ("bucket", "erase"): Command("bucket.erase"),
    ("bucket", "status"): Command("bucket.status"),
    ("bucket", "export"): Command("bucket.export"),
    ("bucket", "import"): Command("bucket.import"),
    ("bucket", "quota"): Command("bucket.set_quota"),
    ("put",): Command("files.put"),
    ("write",): Command("files.write"),
    ("append",): Command("files.append"),
    ("stat",): Command("files.stat"),
    ("rm",): Command("files.rm"),
    ("rmdir",): Command("files.rmdir"),
    ("mv",): Command("files.mv"),
    ("cp",): Command("files.cp"),
    ("mkdir",): Command("files.mkdir"),
    ("commit",): Command("versions.commit"),
    ("log",): Command("versions.log"),
    ("blame",): Command("versions.blame"),
    ("status",): Command("versions.status"),
    ("diff",): Command("versions.diff"),
    ("branch",): _named("versions.branch_list", "versions.branch_create"),
    ("branch", "ls"): Command("versions.branch_list"),
    ("branch", "create"): Command("versions.branch_create"),
    ("branch", "rm"): Command("versions.branch_delete"),
    ("tag",): _named("versions.tag_list", "versions.tag_create"),
    ("tag", "ls"): Command("versions.tag_list"),
    ("tag", "create"): Command("versions.tag_create"),
    ("tag", "rm"): Command("versions.tag_delete"),
    ("checkout",): Command("versions.checkout"),
    ("merge",): Command("versions.merge"),
    ("revert",): Command("versions.revert"),
    ("share",): Command("versions.share"),
    ("check-share",): Command("versions.check_share"),
    ("folder", "snapshot"): Command("versions.snapshot"),
    ("folder", "status"): Command("versions.folder_status"),
    ("folder", "restore"): Command("versions.folder_restore"),
    ("cherry-pick",): Command("versions.cherry_pick"),
    ("reset",): Command("versions.reset"),
    ("rebase",): Command("versions.rebase"),
    ("protect",): Command("versions.protect"),
    ("unprotect",): Command("versions.unprotect"),
    ("protections",): Command("versions.protections"),
    ("rule", "set"): Command("versions.rule_set"),
    ("rule", "rm"): Command("versions.rule_delete"),
    ("rule", "ls"): Command("versions.rule_list"),
    ("undo",): Command("versions.undo"),
    ("dataset", "create"): Command("dataset.create"),
    ("dataset", "put"): Command("dataset.put"),
    ("dataset", "append"): Command("dataset.append"),
    ("dataset", "info"): Command("dataset.info"),
    ("dataset", "ls"): Command("dataset.list"),
    ("dataset", "versions"): Command("dataset.versions"),
    ("dataset", "lineage"): Command("dataset.lineage"),
    ("dataset", "rows"): Command("dataset.rows"),
    ("dataset", "get"): Command("dataset.get"),
    ("dataset", "diff"): Command("dataset.diff"),
    ("dataset", "profile"): Command("dataset.profile"),
    ("dataset", "drift"): Command("dataset.drift"),
    ("dataset", "sql"): Command("dataset.sql"),
    ("search", "query"): Command("search.query"),
    ("search", "index"): Command("search.index"),
    ("search", "status"): Command("search.status"),
    ("search", "drop"): Command("search.drop"),
    ("metadata", "add"): Command("metadata.add"),
    ("metadata", "get"): Command("metadata.get"),
    ("metadata", "rm"): Command("metadata.delete"),
    ("metadata", "touch"): Command("metadata.touch"),
    ("metadata", "query"): Command("metadata.query"),
    ("metadata", "count"): Command("metadata.count"),
    ("metadata", "search"): Command("metadata.search"),
    ("metadata", "publish"): Command("metadata.publish"),
    ("metadata", "merge"): Command("metadata.merge"),
    ("metadata", "peers"): Command("metadata.peers"),
    ("metadata", "resources"): Command("metadata.resources"),
    ("metadata", "similar-models"): Command("metadata.similar_models"),
    ("metadata", "datasets-for"): Command("metadata.datasets_for"),
    ("metadata", "describe"): Command("metadata.describe"),
    ("metadata", "export"): Command("metadata.export"),
    ("metadata", "share"): Command("metadata.share"),
    ("metadata", "rebuild"): Command("metadata.rebuild"),
    ("ledger", "tail"): Command("ledger.tail", live="ledger.follow"),
    ("ledger", "show"): Command("ledger.show"),
    ("ledger", "sql"): Command("ledger.sql"),
    ("ledger", "query"): Command("ledger.query"),
    ("ledger", "queries"): Command("ledger.queries"),
    ("ledger", "prove"): Command("ledger.prove"),
    ("ledger", "check-proof"): Command("ledger.check_proof"),
    ("ledger", "verify"): Command("ledger.verify"),
    ("ledger", "checkpoint"): Command("ledger.checkpoint"),
    ("ledger", "vkey"): Command("ledger.vkey"),
    ("ledger", "seal"): Command("ledger.seal"),
    ("ledger", "expire"): Command("ledger.expire"),
    ("ledger", "erase"): Command("ledger.erase"),
    ("ledger", "mirror"): Command("ledger.mirror"),
    ("ledger", "export"): Command("ledger.export"),
    ("ledger", "publication-create"): Command("ledger.publication_create"),
    ("ledger", "publication-list"): Command("ledger.publication_list"),
    ("ledger", "publication-import"): Command("ledger.publication_import"),
    ("ledger", "publication-load"): Command("ledger.publication_load"),
    ("ledger", "publication-drop"): Command("ledger.publication_drop"),
    ("ledger", "witness"): Command("ledger.witness"),
    ("ledger", "witness-add"): Command("ledger.witness_add"),
    ("ledger", "witness-list"): Command("ledger.witness_list"),
    ("ledger", "witness-remove"): Command("ledger.witness_remove"),
    ("ledger", "freeze"): Command("ledger.freeze"),
    ("ledger", "unfreeze"): Command("ledger.unfreeze"),
    ("ledger", "hold-add"): Command("ledger.hold_add"),
    ("ledger", "hold-list"): Command("ledger.hold_list"),
    ("ledger", "hold-release"): Command("ledger.hold_release"),
    ("stream", "list"): Command("stream.list"),
    ("stream", "append"): Command("stream.append"),
    ("stream", "flush"): Command("stream.flush"),
    ("stream", "batches"): Command("stream.batches"),
    ("stream", "load"): Command("stream.load"),
    ("stream", "query"): Command("stream.query"),
    ("stream", "configure"): Command("stream.configure"),
    ("journal", "apply"): Command("journal.apply"),
    ("journal", "add"): Command("journal.add"),
    ("journal", "begin"): Command("journal.begin"),
    ("journal", "commit"): Command("journal.commit"),
    ("journal", "rollback"): Command("journal.rollback"),
    ("journal", "checkpoint"): Command("journal.checkpoint"),
    ("journal", "recover"): Command("journal.recover"),
    ("journal", "entries"): Command("journal.entries"),
    ("audit", "query"): Command("audit.query"),
    ("audit", "report"): Command("audit.report"),
    ("audit", "verify"): Command("audit.verify"),
    ("audit", "export"): Command("audit.export"),
    ("audit", "timeline"): Command("audit.timeline"),
    ("audit", "rules"): Command("audit.rules"),
    ("audit", "rule-set"): Command("audit.rule_set"),
    ("audit", "check-alerts"): Command("audit.check_alerts"),
    ("audit", "detect"): Command("audit.detect"),
    ("journal", "state"): Command("journal.state"),
    ("journal", "check"): Command("journal.check"),
    ("vfs-journal", "query"): Command("vfs_journal.query"),
    ("vfs-journal", "statistics"): Command("vfs_journal.statistics"),
    ("vfs-journal", "timeline"): Command("vfs_journal.timeline"),
    ("vfs-journal", "export"): Command("vfs_journal.export"),
    ("observer", "watch"): Command("observer.watch"),
    ("observer", "unwatch"): Command("observer.unwatch"),
    ("observer", "watched"): Command("observer.watched"),
    ("observer", "scan"): Command("observer.scan"),
    ("observer", "changes"): Command("observer.changes"),
    ("observer", "figures"): Command("observer.figures"),
    ("logs", "list"): Command("logs.list"),
    ("logs", "query"): Command("logs.query"),
    ("logs", "tail"): Command("logs.tail"),
    ("logs", "rotate"): Command("logs.rotate"),
    ("logs", "ingest"): Command("logs.ingest"),
    ("logs", "store"): Command("logs.store"),
    ("logs", "versions"): Command("logs.versions"),
    ("logs", "diff"): Command("logs.diff"),
    ("logs", "restore"): Command("logs.restore"),
    ("health", "run"): Command("health.run"),
    ("health", "status"): Command("health.status"),
    ("health", "history"): Command("health.history"),
    ("health", "checks"): Command("health.checks"),
    ("health", "configure"): Command("health.configure"),
    ("health", "report"): Command("health.report"),
    ("telemetry", "metrics"): Command("telemetry.metrics"),
    ("telemetry", "history"): Command("telemetry.history"),
    ("telemetry", "realtime"): Command("telemetry.realtime"),
    ("telemetry", "plot"): Command("telemetry.plot"),
    ("telemetry", "report"): Command("telemetry.report"),
    ("telemetry", "cross-node"): Command("telemetry.cross_node"),
    ("telemetry", "prometheus"): Command("telemetry.prometheus"),
    ("telemetry", "otlp-send"): Command("telemetry.otlp_send", live="telemetry.otlp_send"),
    ("ops",): Command("system.operations"),
    ("doctor",): Command("system.doctor"),
    ("upgrade",): Command("system.upgrade"),
    ("mcp",): Command(help="Serve the Model Context Protocol over stdio."),
    ("serve",): Command(help="Serve HTTP: API, MCP, gateway, ledger, on loopback with a token."),
    ("mount",): Command(help="Mount a bucket or a version of it as a folder, until unmounted or interrupted (fuse3)."),
    ("observe",): Command(help="Follow the watched folders and print changes as they happen, until interrupted."),
    ("witness",): Command(help="Witness logs of other stores: cosign their checkpoints (C2SP tlog-witness)."),
    ("completion",): Command(help="Print the shell completion script for bash, zsh or fish."),
}

GROUPS = tuple(dict.fromkeys(words[0] for words in COMMANDS if len(words) == 2))


def find(words: Sequence[str]) -> tuple[tuple[str, ...], Command, Sequence[str]] | None:
    """Match the leading words with a command.

    Args:
        words: What follows the global options.

    Returns:
        The command's words, the command, and the rest; None when no command matches.
    """
    for length in (2, 1):
        key = tuple(words[:length])
        if len(key) == length and key in COMMANDS:
            return key, COMMANDS[key], words[length:]
    return None
