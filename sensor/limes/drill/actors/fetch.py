"""A tool of the agent: one HTTP GET of http://ADDRESS[:PORT]/PATH.

Stands alone. Prints {"pid", "status", "bytes"}.
"""

import http.client
import json
import os
import sys
from urllib.parse import urlsplit


def main(url: str) -> None:
    """Get the URL and print what came back."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    body = response.read(65536)
    connection.close()
    print(json.dumps({"pid": os.getpid(), "status": response.status, "bytes": len(body)}))


if __name__ == "__main__":
    main(sys.argv[1])
