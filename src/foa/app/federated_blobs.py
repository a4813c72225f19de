"""Where the large messages of a run go, by the settings: a folder on one machine, HTTP between several."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree

from foa.app.federated_sites import run_folder
from foa.app.settings import Settings
from foa.errors import BadInput, BadMessage
from foa.fl.blob_client import HttpBlobs
from foa.fl.blob_server import BlobServer, Listen, serving
from foa.fl.blobs import BlobPlace, Blobs, FolderBlobs, ServerBlobs
from foa.ports import Clock


@asynccontextmanager
async def open_blobs(settings: Settings, run: str, clock: Clock) -> AsyncGenerator[ServerBlobs]:
    """The blobs of a run at its server; what is left of them goes when the block ends.

    Raises:
        BadInput: the settings name no usable address, or it is taken.
        StoreFailed: the run's folder cannot be used.
    """
    folder = run_folder(settings, run) / "blobs"
    try:
        if settings.fl_listen:
            listen = _listen(settings)
            async with serving(BlobServer(folder, run, listen, clock), listen) as server:
                yield server
        else:
            yield FolderBlobs(folder, run=run)
    finally:
        rmtree(folder, ignore_errors=True)


def reach(place: BlobPlace, settings: Settings, folder: Path) -> Blobs:
    """The blobs of a run as a site reaches them.

    Args:
        place: as the server said.
        settings: what the site's owner allows.
        folder: of the site, for what is being fetched.

    Raises:
        BadMessage: there is no such place.
    """
    if place.at == "folder":
        # the same folder as `open_blobs`, for a server and sites that share a state directory
        shared = settings.state_dir / "fl" / place.run / "blobs"
        if not shared.is_dir():
            raise BadMessage(
                "the server keeps large models in a folder that this site does not have: on another machine, or with "
                "another FOA_STATE_DIR, the server has to serve them (FOA_FL_LISTEN)"
            )
        return FolderBlobs(shared, run=place.run)
    hosts = tuple(host.strip() for host in settings.fl_hosts.split(",") if host.strip())
    ca = Path(settings.fl_ca).expanduser() if settings.fl_ca else None
    return HttpBlobs(place, folder, hosts=hosts, ca=ca, blob_bytes=settings.fl_blob_bytes)


def _listen(settings: Settings) -> Listen:
    host, _, port = settings.fl_listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise BadInput(f"FOA_FL_LISTEN {settings.fl_listen!r}: write host:port, e.g. 0.0.0.0:8480")
    if host.strip("[]") in ("0.0.0.0", "::") and not settings.fl_url:
        raise BadInput(f"FOA_FL_LISTEN is {settings.fl_listen}: say in FOA_FL_URL by which address sites reach this machine")
    if bool(settings.fl_cert) != bool(settings.fl_key):
        raise BadInput("FOA_FL_CERT and FOA_FL_KEY belong together: set both, or none for HTTP")
    return Listen(
        host=host.strip("[]"),
        port=int(port),
        url=settings.fl_url.rstrip("/"),
        certificate=Path(settings.fl_cert).expanduser() if settings.fl_cert else None,
        key=Path(settings.fl_key).expanduser() if settings.fl_key else None,
        blob_bytes=settings.fl_blob_bytes,
    )
