"""`fssplat serve`: a model answers programs, people and annotation tools over HTTP."""

from pathlib import Path

import typer

from fssplat.cli.predict import BACKBONE, MODEL, STORE
from fssplat.common.printing import one_line, say


def serve(
    model: str = MODEL,
    host: str = typer.Option("127.0.0.1", help="Address; others than this need $FSSPLAT_TOKEN."),
    port: int = typer.Option(8321, min=1, max=65535, help="Port of the address."),
    supports: Path = typer.Option(Path("supports"), help="Folder that keeps registered supports."),
    label_studio: str = typer.Option(
        "", metavar="URL", help="Label Studio whose tasks are predicted, e.g. http://127.0.0.1:8080"
    ),
    store: str = STORE,
    backbone: str = BACKBONE,
) -> None:
    """Answer over HTTP: mark an object in a few images, find it in others.

    fssplat serve --model prior

    The page at / is for people, /docs lists the routes. Label Studio and X-AnyLabeling can use the
    same address. $FSSPLAT_TOKEN is the token that every request needs; $LABEL_STUDIO_API_KEY is a
    key of Label Studio.
    """
    import os

    from fssplat.cli.ui import require_free
    from fssplat.common.errors import InputError
    from fssplat.serving.server.settings import ServerSettings

    settings = ServerSettings(
        model=model,
        store=store,
        backbone=backbone,
        folder=supports,
        host=host,
        port=port,
        token=os.environ.get("FSSPLAT_TOKEN", ""),
        label_studio=label_studio,
        label_studio_key=os.environ.get("LABEL_STUDIO_API_KEY", ""),
    )
    try:
        from fssplat.serving.server.app import address_of, serve_forever
    except ModuleNotFoundError as error:
        raise InputError(
            f"the package {error.name} is missing, and a server needs it. Install it: "
            "`pip install 'fssplat[serve]'`."
        ) from error
    from fssplat.serving.server.services import Services

    require_free(port, host)
    services = Services(settings)
    loaded = services.network.model
    say(one_line(f"model: {loaded.name}, {loaded.source}"))
    say(one_line(f"supports: {supports}, {len(services.registered.names())} sets"))
    say(f"Page {address_of(host, port)}/  routes {address_of(host, port)}/docs  (Ctrl-C stops it)")
    serve_forever(services)
