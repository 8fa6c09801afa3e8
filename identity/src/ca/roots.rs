//! Trust bundles put together from several files: for the time in which two roots count.
//!
//! The one idea: a bundle is replaced in one step by one that every workload takes, so that none reads half of it, and the roots
//! of two trust domains never come into one file by mistake.

use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::{CERTIFICATE_FILE, CaError, KEY_FILE, output};
use crate::delivered::section;
use crate::files::Contents;
use crate::{TrustDomain, bundle, certificate};

/// Writes the roots of several PEM files as one trust bundle, each once, in the place of what is there. Says how many there are.
///
/// # Errors
/// When a file cannot be read, has none, or has a certificate that is no root; when they name different trust domains; when `out`
/// is an authority's own certificate, or cannot be written.
pub fn write_bundle(files: &[PathBuf], out: &Path) -> Result<usize, CaError> {
    let beside = out.parent().unwrap_or(Path::new(""));
    if out.file_name().is_some_and(|name| name == CERTIFICATE_FILE) && beside.join(KEY_FILE).exists() {
        return Err(CaError::Taken { file: out.to_owned() });
    }
    let mut roots = Vec::new();
    let mut named: Option<TrustDomain> = None;
    for file in files {
        let contents = Contents::read(file)?;
        let not_root = |reason| CaError::NotAuthority { file: file.clone(), reason };
        let certificates = contents.certificates()?;
        if certificates.is_empty() {
            return Err(not_root("there is no certificate in it".to_owned()));
        }
        for (der, position) in certificates.into_iter().zip(1..) {
            let root = certificate::parse(&der).map_err(|reason| contents.malformed(position, reason))?;
            if let Some(reason) = bundle::why_not_root(&root) {
                return Err(not_root(reason));
            }
            // Others' roots need not name one; where they do, it has to be the same.
            if let Ok(of) = super::trust_domain_of(&root) {
                let first = named.get_or_insert_with(|| of.clone());
                if *first != of {
                    return Err(not_root(format!("it is a root of {of}, and the bundle is of {first}")));
                }
            }
            drop(root);
            if !roots.contains(&der) {
                roots.push(der);
            }
        }
    }
    let text: String = roots.iter().map(|der| section("CERTIFICATE", der)).collect();
    let _alone = Lock::of(beside)?;
    output::replace(out, &text)?;
    Ok(roots.len())
}
