"""Keys: who signs, what seals a person's fields, and how a key is destroyed for good (decisions 7, 18 and 20)."""

from ipfs_kit.keys.ring import KeyFault, KeyRing, Subject
from ipfs_kit.keys.sealing import Sealer, seal, unseal
from ipfs_kit.keys.signing import Signer, verify_signature

__all__ = ["KeyFault", "KeyRing", "Sealer", "Signer", "Subject", "seal", "unseal", "verify_signature"]
