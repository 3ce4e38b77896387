"""Where a change of health is told: a webhook, or a folder of mails; both fit ``alert_callback``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

from ipfs_kit.durable import create_exclusive, make_dirs
from ipfs_kit.errors import Unavailable
from ipfs_kit.ledger.outbound import checked_url, post

Tell = Callable[[str, str], None]
"""Told ``raised`` or ``cleared``, and what: ``CHECK: STATUS``."""


def webhook(url: str, timeout_s: float = 5.0) -> Tell:
    """Post each change as JSON to an address; no redirects are followed, no link-local address is spoken to.

    Raises:
        InvalidInput: The address is none that may be used.
    """
    checked_url(url)

    def tell(state: str, what: str) -> None:
        told = json.dumps({"state": state, "alert": what}).encode()
        status, _, _ = post(url, told, timeout_s, "application/json")
        if not 200 <= status < 300:
            raise Unavailable(f"{url} answered with status {status}: the change is recorded, but was not told there")

    return tell


def mail_folder(folder: str | os.PathLike[str], sender: str, to: str, now_ns: Callable[[], int]) -> Tell:
    """Write each change as a mail file (RFC 5322) into a folder, from which a mail program takes it.

    Args:
        folder: Where; it is made.
        sender: Address in From.
        to: Address in To.
        now_ns: The clock; it names the files.
    """
    make_dirs(folder, 0o700)

    def tell(state: str, what: str) -> None:
        mail = EmailMessage(policy=SMTP)
        mail["From"], mail["To"] = sender, to
        mail["Subject"] = "".join(c if c.isprintable() else " " for c in f"ipfs-kit alert {state}: {what}")[:200]
        mail.set_content(f"{what}\n\nThe alert was {state}.\n")
        create_exclusive(os.path.join(folder, f"{now_ns():020}-{state}.eml"), mail.as_bytes(), mode=0o600)

    return tell
