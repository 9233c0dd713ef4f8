"""The agent's service on its own loopback: gives back what it is sent, bounded in bytes.

Stands alone. Usage: notebook.py ADDRESS PORT LIMIT. Ends after LIMIT bytes or ten idle minutes.
"""

import socket
import sys

IDLE = 600.0


def main(address: str, port: int, limit: int) -> None:
    """Serve one connection after the other."""
    left = limit
    with socket.create_server((address, port)) as server:
        server.settimeout(IDLE)
        while left > 0:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(IDLE)
                while left > 0 and (data := peer.recv(min(65536, left))):
                    peer.sendall(data)
                    left -= len(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
