"""Figures of proxies that no package of Debian's or wheel brings: measured once, with these scenarios, and only repeated here."""

WHERE = (
    "Measured before, on another day, on a quiet machine of the same kind (two x86-64 cores), and not by this run. `floor` was a relay "
    "like ours here; `to reach` is what we set ourselves for that machine, of which the table above has the shares."
)

TABLE = """\
| CPU us a request, both sides | to reach | floor | ztunnel (bytes only) | linkerd2-proxy | Pipy |
|---|---:|---:|---:|---:|---:|
| HTTP/1.1 keep-alive, 64 connections, saturated | 13 | 9 to 11 | 12 to 19 | 37.6 | 36.7 |
| the same at 2,000 requests/s | 32 | 26 | 29 | 95 | 83 |
| HTTP/2, 8 connections x 32 streams, saturated | 12 | 6.5 | 7.3 | 31.4 | 18.6 |
| a new plaintext connection a request, upstream pooled | 22 | - | 82 | 63 | 44 to 51 |
| a full mutual handshake a request | 400 | 370 | - | - | 970 to 1030 |
| server side alone, full mutual handshake | 200 | 188 | - | - | 456 |
| server side alone, mutual TLS keep-alive, 32 connections | 8 | 11 | - | - | 18 |
| 100 MiB downloads, CPU s a GiB | 0.50 | 0.62 | 0.58 | 0.85 | 1.09 |
| a process at rest, MiB | 8 | - | 16 | 20 | 14 |
| a resting mutual TLS connection into the server side, KiB | 14 | - | - | - | 69.5 |
| a resting plaintext connection into the client side, KiB | 4 | - | 8.4 | 14.4 | 12.0 |
| server side with 1 / 10,000 policies, the matching one last | 1.05 of that at 1 | - | - | 20 / 109 | 20 / 987; as a map 18 / 20 |
"""
