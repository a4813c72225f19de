"""Keys between two members, masks that cancel, and sealed shares. Thin over `cryptography`; nothing is invented here.

X25519 and HKDF-SHA256 agree on keys, ChaCha20 stretches one into a mask, ChaCha20-Poly1305 seals. A mask's key has 256 bits
and is used for one round only.
"""

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from foa.errors import BadMessage

KEY_BYTES = 32
Levels = NDArray[np.uint32]


def public(private: bytes) -> bytes:
    """The public key of 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, other: bytes, purpose: str) -> bytes:
    """The key of 32 bytes that two members share, for one purpose.

    Raises:
        BadMessage: the other's key is none.
    """
    try:
        point = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise BadMessage(f"a member's public key cannot be used: {error}") from error
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=f"foa/secagg/{purpose}".encode()).derive(point)


def mask(key: bytes, count: int) -> Levels:
    """So many numbers, uniform over 32 bits to whoever has not the key."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return np.frombuffer(stream.update(bytes(4 * count)), np.dtype("<u4")).astype(np.uint32)


def seal(key: bytes, content: bytes, about: str) -> bytes:
    """The content under a key that seals once."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), content, about.encode())


def unseal(key: bytes, sealed: bytes, about: str) -> bytes:
    """The content.

    Raises:
        BadMessage: it was sealed under another key, about something else, or was changed.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, about.encode())
    except (InvalidTag, ValueError) as error:
        raise BadMessage("a sealed share was not meant for this member, or was changed on its way") from error
