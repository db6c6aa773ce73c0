"""A real S3 server in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from s3fs import S3FileSystem


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields the endpoint of an empty server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # What another server in this process held would still be there.
        with closing(HTTPConnection(host, port)) as connection:
            connection.request("POST", "/moto-api/reset")
            connection.getresponse().read()
        yield f"http://{host}:{port}"
    finally:
        # Clients of this server are of no use to the next one.
        S3FileSystem.clear_instance_cache()
        server.stop()


def s3_environment(endpoint: str) -> dict[str, str]:
    """Variables by which AWS clients find the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
