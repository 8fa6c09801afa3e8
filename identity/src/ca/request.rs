//! Requests for certificates (PKCS #10, RFC 2986) that somebody sends, and what is signed for them.
//!
//! The one idea: of a request only its key counts. Whose the certificate is says a proof that came beside it; a name in the request can
//! only be that one. Everything else that is asked for (subject, usages, other extensions) is passed over, because a leaf of ours is
//! always the same.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PKCS_RSA_SHA384,
    PKCS_RSA_SHA512, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::{Authority, CaError, IssueOptions};
use crate::certificate::{self, MIN_RSA_BITS};
use crate::{SpiffeId, tls};

/// Why a request is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not PEM with one request in it, or not a request.
    #[error("it is no certificate request: {0}")]
    Form(String),
    /// Of a kind that is not signed for.
    #[error("its key is not P-256, P-384, Ed25519 or RSA of {MIN_RSA_BITS} bits or more")]
    Key,
    /// Whoever sent it has not shown that the private key is theirs.
    #[error("its signature is not by its key")]
    Signature,
    /// It names somebody who is not who has asked.
    #[error("it asks for the name {asked:?}, the proof is {proven}'s")]
    Name {
        /// As it stands there.
        asked: String,
        /// Who has asked.
        proven: SpiffeId,
    },
}

/// A request whose sender has the key to it.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    key: SubjectPublicKeyInfo,
    /// URIs as they stand there; of other names their kind.
    names: Vec<String>,
}

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// PEM: the leaf.
    pub certificate_pem: String,
    /// Lower-case hexadecimal without separators; what it is revoked by.
    pub serial: String,
    /// Its last moment.
    pub not_after: SystemTime,
}

impl SigningRequest {
    /// Reads a request in PEM: one, with nothing after it, by a key that may have a certificate, signed with that key.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(pem: &str) -> Result<Self, RequestError> {
        let form = |reason: &dyn ToString| RequestError::Form(reason.to_string());
        let all: Result<Vec<_>, _> = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes()).collect();
        let all = all.map_err(|error| form(&error))?;
        let [der] = all.as_slice() else { return Err(form(&format!("there are {} in it", all.len()))) };
        let request = match X509CertificationRequest::from_der(der) {
            Ok(([], request)) => request,
            Ok((rest, _)) => return Err(form(&format!("{} bytes follow it", rest.len()))),
            Err(error) => return Err(form(&error)),
        };
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err(form(&"it is of another version than 1"));
        }
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| RequestError::Key)?;
        let kinds = [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
            &PKCS_RSA_SHA256,
            &PKCS_RSA_SHA384,
            &PKCS_RSA_SHA512,
        ];
        if !kinds.contains(&key.algorithm()) || certificate::weak_rsa_bits(&info.subject_pki).is_some() {
            return Err(RequestError::Key);
        }
        let signed = (info.raw, request.signature_value.data.as_ref());
        if !certificate::is_signature_by(
            &info.subject_pki,
            signed,
            tls::provider().signature_verification_algorithms.all,
        ) {
            return Err(RequestError::Signature);
        }
        Ok(Self { key, names: names(&request)? })
    }

    /// What it asks to be called: URIs as they stand there, other names in words.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether it is for `proven`: it names nobody, or nobody else.
    ///
    /// # Errors
    /// The first name that is another.
    pub fn check_names(&self, proven: &SpiffeId) -> Result<(), RequestError> {
        match self.names.iter().find(|name| name.as_str() != proven.as_str()) {
            Some(asked) => Err(RequestError::Name { asked: asked.clone(), proven: proven.clone() }),
            None => Ok(()),
        }
    }
}

/// All names that are asked for, wherever they stand.
fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, RequestError> {
    let mut names = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        if let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() {
            for extension in &asked.extensions {
                add_names(extension, &mut names)?;
            }
        }
    }
    Ok(names)
}

fn add_names(extension: &X509Extension<'_>, names: &mut Vec<String>) -> Result<(), RequestError> {
    if extension.oid != OID_X509_EXT_SUBJECT_ALT_NAME {
        return Ok(());
    }
    let ParsedExtension::SubjectAlternativeName(asked) = extension.parsed_extension() else {
        return Err(RequestError::Form("its names cannot be read".to_owned()));
    };
    names.extend(asked.general_names.iter().map(|name| match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => other.to_string(),
    }));
    Ok(())
}

impl Authority {
    /// Signs a certificate for a request's key. Whose it is, `id`, must have been proven, and the names of the request looked at
    /// ([`SigningRequest::check_names`]).
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn sign(&self, request: &SigningRequest, id: SpiffeId, validity: Duration) -> Result<Signed, CaError> {
        let params = self.leaf(&IssueOptions { id, validity, dns_names: Vec::new() })?;
        let certificate = params.signed_by(&request.key, &self.issuer)?;
        Ok(Signed {
            certificate_pem: certificate.pem(),
            serial: serial(&params),
            // What a certificate can say is whole seconds.
            not_after: SystemTime::from(params.not_after.replace_nanosecond(0).unwrap_or(params.not_after)),
        })
    }
}

fn serial(params: &CertificateParams) -> String {
    params.serial_number.as_ref().map(|serial| certificate::hex(serial.as_ref())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
