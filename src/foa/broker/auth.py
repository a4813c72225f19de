"""Usernames and passwords, in the file that mosquitto_passwd writes.

user:$7$iterations$salt$hash     PBKDF2 with HMAC-SHA512 (mosquitto_passwd's default since 2.0)
user:$6$salt$hash                SHA512 of password and salt (before 2.0, and `-H sha512`)
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foa.errors import BadInput

MOST_ITERATIONS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One user's password, hashed."""

    salt: bytes
    hash: bytes
    iterations: int  #: of PBKDF2; 0: one round of SHA512

    def verify(self, password: bytes) -> bool:
        """Whether this is the password; takes the same time if not."""
        if self.iterations:
            found = hashlib.pbkdf2_hmac("sha512", password, self.salt, self.iterations, len(self.hash))
        else:
            found = hashlib.sha512(password + self.salt).digest()
        return hmac.compare_digest(found, self.hash)


NOBODY = Digest(salt=b"\0" * 12, hash=b"\0" * 64, iterations=101)


class Passwords:
    """Users and their digests."""

    def __init__(self, users: Mapping[str, Digest]) -> None:
        self._users = dict(users)

    def verify(self, user: str | None, password: bytes | None) -> bool:
        """Whether user and password belong together. May take milliseconds: call it in a thread."""
        known = self._users.get(user) if user is not None else None
        right = (known or NOBODY).verify(password or b"")
        return right and known is not None and password is not None


def read_passwords(path: Path) -> Passwords:
    """Read a password file.

    Raises:
        BadInput: it cannot be read, or a line is not one that mosquitto_passwd writes; names the line.
    """
    users: dict[str, Digest] = {}
    for number, line in lines_of(path, "password"):
        name, colon, digest = line.partition(":")
        if not colon or not name:
            raise BadInput(f"{path}, line {number}: expected user:hash, as mosquitto_passwd writes it")
        try:
            users[name] = read_digest(digest)
        except (ValueError, binascii.Error) as error:
            raise BadInput(f"{path}, line {number}: {error}; make the line with `mosquitto_passwd {path} {name}`") from error
    return Passwords(users)


def read_digest(text: str) -> Digest:
    """The part behind the colon.

    Raises:
        ValueError: another form.
    """
    match text.split("$"):
        case ["", "6", salt, hashed]:
            iterations = 0
        case ["", "7", count, salt, hashed] if count.isdecimal():
            iterations = int(count)
            if not 1 <= iterations <= MOST_ITERATIONS:
                raise ValueError(f"{iterations} iterations are not between 1 and {MOST_ITERATIONS}")
        case _:
            raise ValueError("the password is not hashed as $6$salt$hash or $7$iterations$salt$hash")
    digest = Digest(salt=decode(salt), hash=decode(hashed), iterations=iterations)
    if len(digest.hash) != 64:
        raise ValueError(f"the hash has {len(digest.hash)} bytes, SHA512 has 64")
    return digest


def decode(text: str) -> bytes:
    """Base64, strictly."""
    return base64.b64decode(text, validate=True)


def lines_of(path: Path, what: str) -> list[tuple[int, str]]:
    """Lines of a small text file with their numbers, without empty ones and comments.

    Raises:
        BadInput: it cannot be read, is not UTF-8, or is over 16 MiB.
    """
    try:
        if path.stat().st_size > 16 * 1_048_576:
            raise BadInput(f"the {what} file {path} is larger than 16 MiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the {what} file {path} cannot be read: {error}") from error
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]
