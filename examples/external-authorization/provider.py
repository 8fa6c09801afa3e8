#!/usr/bin/env python3
"""A provider and an application to try external authorization with.

The provider, on port 9000, says yes to whoever sends `x-ext-authz: allow`, and says who that is. The application, on
port 9090, says what it got.
"""

import http.server
import threading


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        allowed = self.headers.get("x-ext-authz") == "allow"
        body = b"" if allowed else b"send `x-ext-authz: allow`\n"
        self.send_response(200 if allowed else 403)
        self.send_header(*(("x-user", "alice") if allowed else ("x-why", "not-asked-nicely")))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{self.path} for {self.headers.get('x-user', 'anybody')}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Provider).serve_forever).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 9090), Application).serve_forever()
