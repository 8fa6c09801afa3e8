# Two images from one build: the proxy (the default), and `--target iptables-init` for the init container that
# redirects a pod's traffic. The bases are arguments, so that a mirror can stand in for a public registry.
# The release of RUST_IMAGE is that of rust-toolchain.toml, which stays out: it asks for development's components too.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG PROXY_IMAGE=gcr.io/distroless/static-debian12
ARG INIT_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# Statically linked: the proxy's image has no libc. Naming the target keeps build scripts out of these flags.
RUN host="$(rustc --version --verbose | sed -n 's/^host: //p')" \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --package meshgate --target "$host" \
 && install -D "target/$host/release/meshgate" /out/meshgate

# Needs NET_ADMIN, and root for as long as it runs. Both rule tools are here, for the node's kernel decides which works.
FROM ${INIT_IMAGE} AS iptables-init
RUN apt-get update \
 && apt-get install --yes --no-install-recommends iptables nftables iproute2 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/meshgate /usr/local/bin/meshgate
ENTRYPOINT ["/usr/local/bin/meshgate", "iptables"]

# No shell, no libc, no root. The user is a number, so that Kubernetes can see that it is not 0, and it is the one that
# the redirection exempts.
FROM ${PROXY_IMAGE} AS proxy
COPY --from=build /out/meshgate /usr/local/bin/meshgate
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/meshgate"]
CMD ["run", "--bootstrap", "/etc/meshgate/bootstrap.yaml"]
