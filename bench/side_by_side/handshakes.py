"""A caller that makes full TLS handshakes, one after the other, and counts. A program of its own: load.py starts several."""

import socket
import ssl
import sys
import time

NAMES = {"X25519": "X25519", "P-256": "prime256v1"}


def main(folder, door, alpn, group, seconds, rate):
    """At most `rate` a second, 0 = as many as there can be; prints how many, and how many failed."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.minimum_version = ssl.TLSVersion.TLSv1_3
    own.check_hostname = False  # names are URIs here, which this library does not look at
    own.load_verify_locations(f"{folder}/ca/ca.pem")
    own.load_cert_chain(f"{folder}/certs/frontend-both.pem")
    own.set_alpn_protocols(alpn.split(","))
    own.set_ecdh_curve(NAMES[group])
    host, _, port = door.rpartition(":")
    begun, done, failed = time.monotonic(), 0, 0
    while (now := time.monotonic()) < begun + seconds:
        if rate and done > rate * (now - begun):
            time.sleep(0.001)
            continue
        try:
            with socket.create_connection((host, int(port)), timeout=5) as plain:
                # Our goodbye is not to wait until our certificate has been acknowledged.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # Waits for the server's end, which comes after it has checked our certificate.
                with own.wrap_socket(plain) as stream:
                    stream.unwrap()
        except (ssl.SSLError, OSError) as error:
            # An end without a goodbye, or with an answer to a request that nobody made, is one too; a refusal is an alert.
            failed += not was_let_in(error)
        done += 1
    print(done, failed)


def was_let_in(error):
    """Whether a server ended a connection that it had let in."""
    if isinstance(error, ssl.SSLEOFError):
        return True
    return isinstance(error, ssl.SSLError) and error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"


if __name__ == "__main__":
    main(*sys.argv[1:5], float(sys.argv[5]), float(sys.argv[6]))
