"""nginx, as far as 1.22 can do the job."""

from ..common import HOST, WORKLOADS, first_line, run, write
from ..processes import APPLICATION, DOOR, ENTRY
from . import Peer

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def client(layout, job):
    return command(layout, "client", job, TUNNEL if job.tunnel else CLIENT)


def server(layout, job):
    return command(layout, "server", job, SERVER)


def command(layout, side, job, text):
    access_log = f"{log(layout, side)} combined buffer=64k flush=1s" if job.access_log else "off"
    values = {
        "folder": layout.folder, "side": side, "connections": job.connections, "host": HOST, "module": STREAM_MODULE,
        "ca": layout.path("ca/ca.pem"), "certs": layout.path("certs"), "accounts": accounts(layout),
        "entry": layout.address(*ENTRY), "door": layout.address(*DOOR), "application": layout.address(*APPLICATION),
        "access_log": access_log, "stream_log": access_log.replace("combined", "basic"),
        "policies": "\n".join(f'    "{account} GET {path}" yes;' for _, account, path in job.policies),
    }  # fmt: skip
    file = layout.path(f"nginx-{side}.conf")
    write(file, (COMMON + text).format(**values))
    return ["nginx", "-p", str(layout.folder), "-e", layout.path(f"nginx-{side}.error"), "-c", file]


def accounts(layout):
    """Whose certificate has which serial number: what 1.22 can tell callers apart by, when they have no distinguished names."""
    lines = []
    for name in WORKLOADS:
        serial = run("openssl", "x509", "-in", layout.path(f"certs/{name}.pem"), "-noout", "-serial").strip().partition("=")[2]
        lines.append(f'    "{serial}" {name};')
    return "\n".join(lines)


COMMON = """\
daemon off;
master_process off;
pid {folder}/nginx-{side}.pid;
error_log {folder}/nginx-{side}.error;
load_module {module};
worker_rlimit_nofile 65536;
events {{ worker_connections {connections}; }}
"""

HTTP = """\
http {{
  access_log {access_log};
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  proxy_http_version 1.1;
  proxy_set_header Host $host;
  proxy_set_header Connection "";
  proxy_max_temp_file_size 0;
"""

CLIENT = (
    HTTP
    + """\
  upstream mesh {{ server {door}; keepalive 1024; keepalive_requests 1000000000; keepalive_time 1d; }}
  server {{
    listen {entry};
    location / {{
      proxy_pass https://mesh;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_certificate {certs}/frontend.pem;
      proxy_ssl_certificate_key {certs}/frontend-key.pem;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_verify on;
      proxy_ssl_name {host};
      proxy_ssl_session_reuse off;
    }}
  }}
}}
"""
)

TUNNEL = """\
stream {{
  log_format basic '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time "$upstream_addr"';
  access_log {stream_log};
  server {{
    listen {entry};
    proxy_pass {door};
    proxy_ssl on;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_certificate {certs}/frontend.pem;
    proxy_ssl_certificate_key {certs}/frontend-key.pem;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_verify on;
    proxy_ssl_name {host};
    proxy_ssl_session_reuse off;
  }}
}}
"""

SERVER = (
    HTTP
    + """\
  map_hash_max_size 262144;
  map_hash_bucket_size 256;
  map $ssl_client_serial $account {{
    default nobody;
{accounts}
  }}
  map "$account $request_method $uri" $allowed {{
    default no;
{policies}
  }}
  upstream application {{ server {application}; keepalive 1024; keepalive_requests 1000000000; keepalive_time 1d; }}
  server {{
    listen {door} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {certs}/backend.pem;
    ssl_certificate_key {certs}/backend-key.pem;
    ssl_client_certificate {ca};
    ssl_verify_client on;
    ssl_session_cache off;
    ssl_session_tickets off;
    if ($allowed = no) {{ return 403; }}
    location / {{ proxy_pass http://application; }}
  }}
}}
"""
)


def log(layout, side):
    return layout.path(f"nginx-{side}.access")


def less(_):
    return (
        "knows callers by the serial numbers of their certificates (1.22 reads no URI name, and these have no distinguished names): a new "
        "certificate is a new entry; of the server its client side checks a DNS name, not the SPIFFE name; writes its log a second late"
    )


PEER = Peer(
    name="nginx",
    version=lambda programs: first_line("nginx", "-v").rpartition(": ")[2],
    client=client,
    server=server,
    less=less,
    log=log,
    # It lets the handshake pass and answers before anything is asked of the policies.
    stranger=(None, 400),
    versions=(1,),
)
