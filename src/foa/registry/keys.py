"""Ed25519 keys and signatures (JWS, RFC 7515 and 8037), as cards and gossip use them."""

import base64
from collections.abc import Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
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
    return sign_bytes(canonical(body), key, typ=typ)


def sign_bytes(signed: bytes, key: SigningKey, *, typ: str) -> str:
    """Sign canonical bytes, as `sign` does."""
    whole = jws.serialize_compact({"alg": _ALGORITHM, "typ": typ}, signed, key, algorithms=[_ALGORITHM])
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
        signed = canonical(body)
    except ValueError as error:
        return f"its signature does not hold: {error}"
    return verify_bytes(signed, signature, x=x, typ=typ)


def verify_bytes(signed: bytes, signature: str, *, x: str, typ: str) -> str:
    """Check a detached signature of canonical bytes, as `verify` does."""
    if signature.count(".") != 2:
        return "it has no signature of the form header..signature"
    header, detached, made = signature.split(".")
    if detached:
        return "its signature is not detached: leave the middle of the JWS empty"
    try:
        stated = _stated_type(header)
        _verifier(x).verify(_unpadded(made), header.encode() + b"." + base64.urlsafe_b64encode(signed).rstrip(b"="))
    except UnsupportedAlgorithmError:
        return f'its signature is of another algorithm: write "alg":"{_ALGORITHM}" into the header of the JWS'
    except (JoseError, InvalidSignature, ValueError, TypeError, KeyError) as error:
        return f"its signature does not hold ({type(error).__name__})"
    if stated != typ:
        return f"its signature was made for {str(stated)[:40]!r}, not for {typ!r}"
    return ""


@lru_cache(maxsize=64)
def _stated_type(header: str) -> object:
    """What a signature says it was made for, in a header that holds (RFC 7515, 4.1); senders write one for all they sign."""
    found = jws.extract_compact(f"{header}..".encode()).headers()
    rules = jws.JWSRegistry(algorithms=[_ALGORITHM])
    rules.check_header(found)
    rules.get_alg(found["alg"])
    if "crit" in found:
        raise ValueError("its header asks for extensions, and none is known here")
    return found.get("typ")


@lru_cache(maxsize=1_024)
def _verifier(x: str) -> Ed25519PublicKey:
    found = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x}).public_key
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("not a public Ed25519 key")
    return found


def _unpadded(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, 2), of which every value has one form."""
    found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode():
        raise ValueError("not base64url without padding")
    return found
