#!/bin/sh
# Makes the certificates that rcgen and aws-lc-rs refuse to make: RSA keys of 1024 bits, and a signature with SHA-1. None
# of the keys is kept. Run in this directory with OpenSSL 3; the tests only read the .pem files.
set -eu
svid='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=critical,URI:spiffe://cluster.local/ns/default/sa/frontend'
signer='basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectAltName=URI:spiffe://cluster.local'
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
new() { # file prefix, key options, then the options of the request
    name=$1 key=$2
    shift 2
    # shellcheck disable=SC2086
    openssl genpkey $key -out "$tmp/$name.key" 2>/dev/null
    openssl req -new -key "$tmp/$name.key" "$@" -out "$tmp/$name.csr"
}
sign() { # file prefix, extensions, then the options of x509
    name=$1
    printf '%s\n' "$2" >"$tmp/ext"
    shift 2
    openssl x509 -req -in "$tmp/$name.csr" -days 36500 -extfile "$tmp/ext" "$@" -out "$name.pem" 2>/dev/null
}
ec='-algorithm EC -pkeyopt ec_paramgen_curve:P-256'
rsa='-algorithm RSA -pkeyopt rsa_keygen_bits:1024'

new rsa1024-leaf "$rsa" -subj /
sign rsa1024-leaf "$svid" -key "$tmp/rsa1024-leaf.key" -sha256

new rsa1024-root "$rsa" -subj '/CN=short root'
sign rsa1024-root "$signer" -key "$tmp/rsa1024-root.key" -sha256

new sha1-root "$ec" -subj '/CN=root of SHA-1'
sign sha1-root "$signer" -key "$tmp/sha1-root.key" -sha256
new sha1-leaf "$ec" -subj /
sign sha1-leaf "$svid" -CA sha1-root.pem -CAkey "$tmp/sha1-root.key" -sha1
