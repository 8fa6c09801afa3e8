"""Figures of proxies that no package of Debian's or wheel brings: measured once, with these scenarios, and only repeated here."""

WHERE = (
    "Measured before, on another day, on a quiet machine of the same kind (two x86-64 cores), and not by this run. `floor` is a relay "
    "of 200 lines on rustls that reads nothing: what kernel and cipher alone cost."
)

TABLE = """\
| CPU us a request, both sides | floor | ztunnel (bytes only) | linkerd2-proxy | Pipy |
|---|---:|---:|---:|---:|
| HTTP/1.1 keep-alive, 64 connections, saturated | 9 to 11 | 12 to 19 | 37.6 | 36.7 |
| the same at 2,000 requests/s | 26 | 29 | 95 | 83 |
| HTTP/2, 8 connections x 32 streams, saturated | 6.5 | 7.3 | 31.4 | 18.6 |
| a new plaintext connection a request, upstream pooled | - | 82 | 63 | 44 to 51 |
| a full mutual handshake a request | 370 | - | - | 970 to 1030 |
| server side alone, full mutual handshake | 188 | - | - | 456 |
| server side alone, mutual TLS keep-alive, 32 connections | 11 | - | - | 18 |
| 100 MiB downloads, CPU s a GiB | 0.62 | 0.58 | 0.85 | 1.09 |
| a process at rest, MiB | - | 16 | 20 | 14 |
| a resting mutual TLS connection into the server side, KiB | - | - | - | 69.5 |
| a resting plaintext connection into the client side, KiB | - | 8.4 | 14.4 | 12.0 |
| server side with 1 / 10,000 policies, the matching one last | - | - | 20 / 109 | 20 / 987; as a map 18 / 20 |
"""
