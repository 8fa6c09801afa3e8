# Everyday commands; `just` lists them. The gate that decides is .ci/run: these are its steps, one at a time.

_list:
    @just --list --unsorted

# Format the sources
fmt:
    cargo fmt --all

# Clippy with the workspace's lints, warnings as errors
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# All tests; extra words go to cargo: `just test -p meshgate-policy`
test *arguments:
    cargo test --workspace --locked {{ arguments }}

# Rewrite the golden files of generated text; look at the difference before you commit it
goldens:
    UPDATE_GOLDENS=1 cargo test --locked -p meshgate-iptables

# The API documentation, warnings as errors
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

# Beside Envoy, HAProxy and nginx: CPU time, latency, memory; installs what is missing, takes 20 minutes
bench *arguments: release
    bench/run {{ arguments }}

# Instructions of fixed work against their budgets, as the gate counts them (needs valgrind)
instructions *arguments: release
    bench/instructions {{ arguments }}

# Dependencies: advisories, licences, banned crates, origins (needs cargo-deny)
deny:
    cargo deny --locked check

# Fuzz every parser, so many seconds each; fuzz/one has one for a night
fuzz seconds="60":
    FUZZ_SEED=0 fuzz/run {{ seconds }}

# Requests of many kinds for so many seconds, while policies, certificates and applications come and go
soak seconds="600":
    cargo bench --locked --profile profiling -p meshgate-tests --bench soak -- --seconds {{ seconds }}

# An hour of the same at a fifth of the pace, with the goals of one: memory within 1 MiB an hour, times within twice the quiet ones
soak-hour rate="200":
    cargo bench --locked --profile profiling -p meshgate-tests --bench soak -- --gentle --rate {{ rate }}

# The walk-throughs on this machine: real processes, real certificates, no root
demo *arguments: release
    ${CARGO_TARGET_DIR:-target}/release/meshgate demo {{ arguments }}

# Both images in real pods (needs root and podman)
pods: release
    MESHGATE_IMAGE_BINARY="$(realpath "${CARGO_TARGET_DIR:-target}/release/meshgate")" cargo test --locked -p meshgate-tests --test pods -- --include-ignored

# The binary that ships: linked statically and optimised by its profile, as it is in the images
release:
    release/build

# A new profile for it, by which it is optimised: before a release, or when much has changed; takes 12 minutes
train:
    release/train

# All of the gate
gate:
    .ci/run
