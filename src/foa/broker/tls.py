"""The TLS context of a listener."""

import ssl
from pathlib import Path

from foa.errors import BadInput


def tls_context(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """TLS 1.2 or later, with a certificate.

    Raises:
        BadInput: a file is missing, not PEM, encrypted, or the two do not belong together.
    """
    for path in (certfile, keyfile):
        if not path.is_file():
            raise BadInput(f"the TLS file {path} does not exist")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # the empty password keeps OpenSSL from asking at the terminal for one
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"{certfile} and {keyfile} are not a certificate and its unencrypted key in PEM: {error}") from error
    return context
