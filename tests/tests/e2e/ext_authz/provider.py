"""A gRPC provider that shares no code with meshgate: Google's gRPC for Python, and Envoy's own definitions.

What it says is in the path that it is asked about. Prints its port when it listens; ends when its standard input does.
"""

import concurrent.futures
import sys

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf import json_format
from google.rpc import status_pb2

OK = status_pb2.Status(code=0)
DENIED = status_pb2.Status(code=7, message="no")


def header(key, value, **options):
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=key, value=value), **options)


def allow(**changes):
    return external_auth_pb2.CheckResponse(status=OK, ok_response=external_auth_pb2.OkHttpResponse(**changes))


def deny(**words):
    denied = external_auth_pb2.DeniedHttpResponse(**words)
    return external_auth_pb2.CheckResponse(status=DENIED, denied_response=denied)


class Provider(external_auth_pb2_grpc.AuthorizationServicer):
    def Check(self, request, context):
        attributes = request.attributes
        if not attributes.request.HasField("http"):
            allowed = attributes.source.principal == "spiffe://cluster.local/ns/default/sa/frontend"
            return external_auth_pb2.CheckResponse(status=OK if allowed else DENIED)
        path = attributes.request.http.path.split("?")[0]
        if path == "/change":
            return allow(
                headers=[header("x-user", "alice"), header("x-list", "2", append={"value": True})],
                headers_to_remove=["x-secret", "host"],
                response_headers_to_add=[header("x-seen", "yes")],
                query_parameters_to_set=[base_pb2.QueryParameter(key="who", value="alice")],
                query_parameters_to_remove=["debug"],
            )
        if path == "/deny":
            return deny(status={"code": 401}, headers=[header("www-authenticate", "Basic")], body="who are you?")
        if path == "/show":
            return deny(status={"code": 418}, body=json_format.MessageToJson(attributes, indent=None))
        if path == "/abort":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not today")
        return external_auth_pb2.CheckResponse(status=OK)


def main():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4))
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(Provider(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


main()
