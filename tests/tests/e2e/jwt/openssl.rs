//! A signer that is not ours.

use std::process::Command;

use serde_json::{Value, json};

use super::issuer::encode;

/// A key that openssl made, as a JWK, and a way to have it sign.
pub(super) fn openssl() -> Option<(Value, impl Fn(&Value) -> String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let run = move |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(output.stdout)
    };
    let path = file.to_str().unwrap().to_owned();
    run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &path])?;
    let modulus = String::from_utf8(run(&["rsa", "-in", &path, "-noout", "-modulus"])?).unwrap();
    let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
    let bytes: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let key = json!({"kty": "RSA", "n": encode(bytes), "e": "AQAB", "alg": "RS256"});
    let sign = move |claims: &Value| {
        let signed =
            format!("{}.{}", encode(json!({"alg": "RS256", "typ": "JWT"}).to_string()), encode(claims.to_string()));
        let message = folder.path().join("message");
        std::fs::write(&message, &signed).unwrap();
        let signature = run(&["dgst", "-sha256", "-sign", &path, message.to_str().unwrap()]).unwrap();
        format!("{signed}.{}", encode(signature))
    };
    Some((key, sign))
}
