"""Ed25519 keys and signatures (JWS, RFC 7515 and 8037), as cards and gossip use them."""

import binascii
from collections.abc import Mapping

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from foa.errors import BadInput
from foa.registry.canonical import canonical

SigningKey = OKPKey

_ALGORITHM = "Ed25519"  # RFC 9864; joserfc checks that the key is of this curve


def new_key() -> SigningKey:
    """Make a private key."""
    return OKPKey.generate_key("Ed25519", private=True)


def load_key(pem: bytes) -> SigningKey:
    """Read a private key from its PEM form.

    Raises:
        BadInput: it is no Ed25519 private key.
    """
    try:
        key = OKPKey.import_key(pem)
    except (ValueError, JoseError) as error:
        raise BadInput("not a key: give an Ed25519 private key in PEM form (openssl genpkey -algorithm ed25519)") from error
    if not key.is_private or key.curve_name != "Ed25519":
        raise BadInput("a signing key must be a private Ed25519 key (openssl genpkey -algorithm ed25519)")
    return key


def save_key(key: SigningKey) -> bytes:
    """Give the private key's PEM form, unencrypted: keep the file to its owner."""
    return key.as_pem(private=True)


def public_key(key: SigningKey) -> str:
    """Give the public half: base64url without padding, 43 characters (RFC 8037, `x`)."""
    return str(key.as_dict(private=False)["x"])


def sign(body: Mapping[str, object], key: SigningKey, *, typ: str) -> str:
    """Sign the canonical bytes of a JSON object; gives a compact JWS with detached content (RFC 7515, appendix F)."""
    whole = jws.serialize_compact({"alg": _ALGORITHM, "typ": typ}, canonical(body), key, algorithms=[_ALGORITHM])
    return jws.detach_content(whole)


def verify(body: Mapping[str, object], signature: str, *, x: str, typ: str) -> str:
    """Check a detached signature; gives "" when it holds, else the reason why not.

    Args:
        body: what was signed, as decoded from JSON.
        signature: what `sign` gave.
        x: the public key that must have made it.
        typ: the type its header must name, so that a signature made for one purpose serves no other.
    """
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
        found = jws.deserialize_compact(signature, key, algorithms=[_ALGORITHM], payload=canonical(body))
    except (JoseError, ValueError, TypeError, KeyError, binascii.Error) as error:
        return f"its signature does not hold ({type(error).__name__})"
    if found.protected.get("typ") != typ:
        return f"its signature was made for {str(found.protected.get('typ'))[:40]!r}, not for {typ!r}"
    return ""
