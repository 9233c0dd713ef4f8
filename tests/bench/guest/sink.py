"""A control plane that stores nothing: takes batches over mTLS and acknowledges them at once."""

import sys
from concurrent import futures
from pathlib import Path

import grpc
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import ingest_service_pb2_grpc as rpc


class Sink(rpc.IngestServiceServicer):
    """Counts what comes, by kind, and writes the counts when the stream ends."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._counts: dict[str, int] = {}

    def Stream(self, requests, context):  # noqa: N802  gRPC's name and types
        try:
            yield from self._answers(requests)
        finally:
            self._out.write_text(repr(self._counts))

    def _answers(self, requests):
        for request in requests:
            if request.WhichOneof("message") == "hello":
                yield pb.StreamResponse(settings=pb.Settings(last_seq=0))
            elif request.WhichOneof("message") == "batches":
                for batch in request.batches.batches:
                    kind = pb.EventKind.Name(batch.kind)
                    self._counts[kind] = self._counts.get(kind, 0) + batch.count
                last = batch.first_seq + batch.count - 1
                yield pb.StreamResponse(ack=pb.Ack(last_seq=last))


def main(certificates: Path, port: str, out: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    rpc.add_IngestServiceServicer_to_server(Sink(out), server)
    pair = (
        (certificates / "control.key").read_bytes(),
        (certificates / "control.crt").read_bytes(),
    )
    authority = (certificates.parent / "ca/ca.crt").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
