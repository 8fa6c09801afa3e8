# Two images from one build: the proxy (the default), and `--target iptables-init` for the init container that
# redirects a pod's traffic. docs/images.md says what is in them, and how to build them of a binary that is there already.
# The bases are arguments, so that a mirror can stand in for a public registry.
# The release of RUST_IMAGE is that of rust-toolchain.toml, which stays out: it asks for development's components too.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG TOOLS_IMAGE=docker.io/library/debian:bookworm-slim
ARG PROXY_IMAGE=scratch

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The commit, for `meshgate version`: the sources come without their repository.
ARG MESHGATE_REVISION=
# Statically linked, for there is no libc in the images, and optimised by the profile in release/. What was downloaded and
# compiled stays with the builder: a change to the sources compiles no dependency again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    MESHGATE_REVISION=$MESHGATE_REVISION release/build && install -D target/release/meshgate /out/meshgate

# Both rule tools, for the node's kernel decides which works, with their libraries and without the distribution.
FROM ${TOOLS_IMAGE} AS tools
RUN apt-get update && apt-get install --yes --no-install-recommends iptables nftables iproute2
COPY image /image
RUN /image/redirection-tools /rootfs

# Needs NET_ADMIN, and root for as long as it runs. No shell.
FROM scratch AS iptables-init
COPY --from=tools /rootfs /
COPY --from=build /out/meshgate /usr/local/bin/meshgate
ENTRYPOINT ["/usr/local/bin/meshgate", "iptables"]

# One file: no shell, no libc, no root, no certificate authorities. The user is a number, so that Kubernetes can see that it
# is not 0, and it is the one that the redirection exempts.
FROM ${PROXY_IMAGE} AS proxy
COPY --from=build /out/meshgate /usr/local/bin/meshgate
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/meshgate"]
CMD ["run", "--bootstrap", "/etc/meshgate/bootstrap.yaml"]
