"""Istio's protocol for certificates by Google's gRPC for Python and by OpenSSL, which share no code with meshgate: `ask` is a workload,
`serve` an authority.

The messages are described here as istio/api's security/v1alpha1/ca.proto has them, so that nothing is generated.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

PATH = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def messages():
    file = descriptor_pb2.FileDescriptorProto(name="ca.proto", package="istio.v1.auth", syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    kinds = descriptor_pb2.FieldDescriptorProto
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    request.field.add(name="validity_duration", number=3, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    metadata = request.field.add(name="metadata", number=4, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_OPTIONAL)
    metadata.type_name = ".google.protobuf.Struct"
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    named = [pool.FindMessageTypeByName(f"istio.v1.auth.{name.name}") for name in file.message_type]
    return [message_factory.GetMessageClass(name) for name in named]


REQUEST, RESPONSE = messages()


def ask(address, name, root, token, csr, seconds):
    """As pilot-agent does: metadata and all."""
    credentials = grpc.ssl_channel_credentials(pathlib.Path(root).read_bytes())
    options = [("grpc.ssl_target_name_override", name)]
    request = REQUEST(csr=pathlib.Path(csr).read_text(), validity_duration=int(seconds))
    request.metadata.update({"CertSigner": "istio-system", "nested": {"a": [1, True, None]}})
    with grpc.secure_channel(address, credentials, options) as channel:
        call = channel.unary_unary(PATH, REQUEST.SerializeToString, RESPONSE.FromString)
        metadata = [("authorization", f"Bearer {pathlib.Path(token).read_text()}"), ("clusterid", "Kubernetes")]
        try:
            answer = call(request, metadata=metadata, timeout=20)
            print(json.dumps({"chain": list(answer.cert_chain)}))
        except grpc.RpcError as error:
            print(json.dumps({"code": error.code().name, "details": error.details()}))


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)


def sign(csr, identity, authority):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        asked = folder / "csr.pem"
        asked.write_text(csr)
        openssl("req", "-in", str(asked), "-verify", "-noout")
        text = openssl("req", "-in", str(asked), "-noout", "-text").stdout
        if f"URI:{identity}" not in text:
            raise ValueError("the request does not name who asks")
        extensions = folder / "extensions"
        extensions.write_text(
            f"subjectAltName=critical,URI:{identity}\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:false\nauthorityKeyIdentifier=keyid\n"
        )
        signer = ["-CA", f"{authority}/ca.pem", "-CAkey", f"{authority}/ca-key.pem", "-set_serial", "0x7a01"]
        leaf = openssl("x509", "-req", "-in", str(asked), *signer, "-days", "1", "-extfile", str(extensions))
        return leaf.stdout


def serve(certificate, key, authority, token, identity):
    """Prints its port when it listens; ends when its standard input does."""

    def create(request, context):
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {token}" or metadata.get("clusterid") != "Kubernetes":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        if request.validity_duration != 86400:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{request.validity_duration} seconds")
        root = pathlib.Path(authority, "ca.pem").read_text()
        return RESPONSE(cert_chain=[sign(request.csr, identity, authority), root])

    handler = grpc.unary_unary_rpc_method_handler(create, REQUEST.FromString, RESPONSE.SerializeToString)
    service, method = PATH.strip("/").split("/")
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    own = [(pathlib.Path(key).read_bytes(), pathlib.Path(certificate).read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(own))
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


{"ask": ask, "serve": serve}[sys.argv[1]](*sys.argv[2:])
