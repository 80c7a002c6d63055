"""How every client reaches its server: whom it trusts and which proxy it takes. The variables that all programs know
decide: SSL_CERT_FILE, HTTP_PROXY, HTTPS_PROXY, NO_PROXY."""

import os
import re
import ssl

from storage.errors import FatalError

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_NOT_TRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: (.*?)(?: \(_ssl|$)", re.DOTALL)


def authorities() -> str | None:
    """The PEM file with the authorities that vouch for servers, None for the public ones.

    Also keeps proxies away from servers on this machine: the libraries whose clients we do not make (Prefect, boto3,
    Label Studio's SDK) all heed NO_PROXY. Raises FatalError where SSL_CERT_FILE names no such file.
    """
    known = [name for name in re.split(r"[,\s]+", os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")) if name]
    missing = [name for name in _THIS_MACHINE if name not in known]
    if missing and "*" not in known:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*known, *missing])
    named = os.environ.get("SSL_CERT_FILE")
    try:
        if named:
            ssl.create_default_context(cafile=named)
    except OSError as error:  # also of a file that holds no certificate
        raise FatalError(f"SSL_CERT_FILE names {named}, which holds no certificate in PEM ({error}).") from error
    return named or None


def tls() -> ssl.SSLContext:
    """What an httpx client checks certificates with; raises FatalError as `authorities` does."""
    import httpx

    authorities()
    return httpx.create_ssl_context()


def check_trusted(error: BaseException, host: str) -> None:
    """Raise FatalError where a connection failed because nobody known here vouches for the server."""
    found = _NOT_TRUSTED.search(str(error))
    if found:
        raise FatalError(
            f"The certificate of {host} is not trusted ({found[1]}). If an authority of your own signed it, let "
            "SSL_CERT_FILE name a PEM file that holds this authority."
        ) from error
