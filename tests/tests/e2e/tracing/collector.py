"""A collector of traces that shares no code with meshgate: Google's gRPC or Python's HTTP server, and OpenTelemetry's own definitions.

Prints its port when it listens, then each span as a line of JSON; ends when its standard input does.
"""

import concurrent.futures
import http.server
import json
import sys
import threading

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

OUTPUT = threading.Lock()
NAME = "opentelemetry.proto.collector.trace.v1.TraceService"


def pairs(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def take(request):
    for group in request.resource_spans:
        scopes = getattr(group, "scope_spans", None) or group.instrumentation_library_spans
        for span in (span for scope in scopes for span in scope.spans):
            line = {
                "resource": pairs(group.resource.attributes),
                "trace": span.trace_id.hex(),
                "id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "state": span.trace_state,
                "name": span.name,
                "kind": trace.Span.SpanKind.Name(span.kind),
                "status": trace.Status.StatusCode.Name(span.status.code),
                "attributes": pairs(span.attributes),
            }
            # In one piece: several threads have something to say.
            with OUTPUT:
                print(json.dumps(line), flush=True)
    return service.ExportTraceServiceResponse()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        right = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        answer = take(service.ExportTraceServiceRequest.FromString(body)).SerializeToString() if right else b""
        self.send_response(200 if right else 400)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    if sys.argv[1] == "grpc":
        export = grpc.unary_unary_rpc_method_handler(
            lambda request, _: take(request),
            request_deserializer=service.ExportTraceServiceRequest.FromString,
            response_serializer=service.ExportTraceServiceResponse.SerializeToString,
        )
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAME, {"Export": export})])
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
    else:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


main()
