//! From a file's text to the objects in it, good and bad.
//!
//! The one idea: which object a document is gets read first and leniently, everything else after that and strictly. A
//! document that is wrong anywhere else still has a name, so that its last good version can stay, or its policy deny.

mod documents;
pub(crate) mod names;
mod parts;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::body::{Body, BodySeed, MetadataSeed};
use crate::kind::{Class, Kind, classify};
use crate::problem::Problem;
use crate::resource::{ALLOW, Broken, Found, Head, Key, Metadata, Object, Place};
use crate::yaml::{self, Document, NoNulls, YamlError};

pub(crate) use documents::Documents;
use parts::Parts;

/// What is in a file.
#[derive(Debug, Default)]
pub(crate) struct FileReading {
    pub(crate) found: Vec<Found>,
    /// Of what could not even be named, and warnings.
    pub(crate) problems: Vec<Problem>,
    /// Something in the file could not be named: it may have been any object that was in the file before.
    pub(crate) unnamed: bool,
}

/// Reads all documents of a file that are not known yet; a broken one does not keep the others from being read.
pub(crate) fn read(file: &Path, text: &str, documents: &mut Documents) -> FileReading {
    let mut reading = FileReading::default();
    for document in yaml::documents(text) {
        let place = || Place { file: file.to_path_buf(), line: document.line() };
        if let Some(found) = documents.find(document.text, place) {
            reading.found.extend(found);
            continue;
        }
        let mut read = read_document(file, document, &documents.root_namespace);
        documents.keep(document.text, &read);
        reading.found.append(&mut read.found);
        reading.problems.append(&mut read.problems);
        reading.unnamed |= read.unnamed;
    }
    reading
}

fn read_document(file: &Path, document: Document<'_>, root_namespace: &str) -> FileReading {
    let mut reading = FileReading::default();
    let head = document.parse::<Head>();
    let is_list = head.as_ref().is_ok_and(|head| classify(&head.api_version, &head.kind) == Class::List);
    let parts = if is_list { Parts::items(document) } else { Parts::whole(document) };
    let heads = if is_list { parts.each(|_| Some(PhantomData::<Head>)) } else { Ok(vec![Some(head)]) };
    let mut reader = Reader { file, root_namespace, parts, reading: &mut reading };
    match heads {
        Ok(heads) => reader.read(heads),
        Err(error) => reader.fail_unnamed(error),
    }
    reading
}

struct Reader<'a, 'r> {
    file: &'a Path,
    root_namespace: &'a str,
    parts: Parts<'a>,
    reading: &'r mut FileReading,
}

/// An object that has a name.
struct Named {
    index: usize,
    key: Key,
    /// What is wrong with its kind or version.
    wrong: Option<YamlError>,
}

/// Everything of an object, each part read or not.
struct Written {
    nulls: Result<(), YamlError>,
    metadata: Result<Metadata, YamlError>,
    body: Result<Body, YamlError>,
}

impl Reader<'_, '_> {
    fn read(&mut self, heads: Vec<Option<Result<Head, YamlError>>>) {
        let mut named = Vec::new();
        for (index, head) in heads.into_iter().enumerate() {
            match head {
                Some(Ok(head)) => named.extend(self.name(index, head)),
                Some(Err(error)) => self.fail_unnamed(error),
                None => {}
            }
        }
        if named.is_empty() {
            return;
        }
        let written = self.parts.document().check().and_then(|()| self.written(&named));
        match written {
            Ok(written) => {
                for (object, written) in named.into_iter().zip(written) {
                    self.build(object, written);
                }
            }
            // Nothing in it can be believed, not even whom it selects.
            Err(error) => {
                for object in named {
                    self.refuse(object.key, vec![error.clone()], None);
                }
            }
        }
    }

    /// Says which object a part is, if it is one to be read.
    fn name(&mut self, index: usize, head: Head) -> Option<Named> {
        let (kind, wrong) = match classify(&head.api_version, &head.kind) {
            Class::Read(kind) => (kind, None),
            Class::Wrong { kind: Some(kind), field, message } => {
                (kind, Some(self.parts.error_at(index, field, message)))
            }
            Class::Wrong { kind: None, field, message } => {
                self.fail_unnamed(self.parts.error_at(index, field, message));
                return None;
            }
            Class::List => {
                self.fail_unnamed(self.parts.error_at(index, "kind", "a list in a list is not read".to_owned()));
                return None;
            }
            Class::NoEffect => {
                let message = format!("{} is not read by this version: it has no effect", head.kind);
                let YamlError { line, message, .. } = self.parts.error_at(index, "kind", message);
                self.reading.problems.push(Problem::warning(self.file, message).at(Some(line)));
                return None;
            }
            Class::PassedOver => {
                tracing::debug!(file = %self.file.display(), kind = head.kind, "passed over");
                return None;
            }
        };
        let Some(name) = head.metadata.name.filter(|name| !name.is_empty()) else {
            self.fail_unnamed(self.parts.error_at(index, "metadata.name", format!("{kind} has no metadata.name")));
            return None;
        };
        let wrong = wrong.or_else(|| {
            names::check_name(&name).err().map(|message| self.parts.error_at(index, "metadata.name", message))
        });
        let namespace = match head.metadata.namespace.filter(|namespace| !namespace.is_empty()) {
            _ if kind.is_cluster_scoped() => String::new(),
            Some(namespace) => namespace,
            None => "default".to_owned(),
        };
        // In a namespace that cannot be, not even a refusal would reach anybody.
        if let Err(message) = names::check_namespace(&namespace) {
            self.fail_unnamed(self.parts.error_at(index, "metadata.namespace", message));
            return None;
        }
        Some(Named { index, key: Key { kind, namespace, name }, wrong })
    }

    /// Reads the rest of each object.
    fn written(&self, named: &[Named]) -> Result<Vec<Written>, YamlError> {
        let kinds: BTreeMap<usize, Kind> = named.iter().map(|object| (object.index, object.key.kind)).collect();
        let kind_of = |index: usize| kinds.get(&index).copied();
        let access_kind_of = |index: usize| kind_of(index).filter(|kind| kind.is_about_access());
        let mut nulls = self.parts.each(|index| access_kind_of(index).map(|_| NoNulls::new()))?;
        let mut metadata = self.parts.each(|index| kind_of(index).map(|_| MetadataSeed))?;
        let mut bodies = self.parts.each(|index| kind_of(index).map(BodySeed))?;
        let written = named.iter().map(|object| Written {
            nulls: nulls.get_mut(object.index).and_then(Option::take).unwrap_or(Ok(())),
            metadata: self.parts.take(&mut metadata, object.index),
            body: self.parts.take(&mut bodies, object.index),
        });
        Ok(written.collect())
    }

    fn build(&mut self, object: Named, written: Written) {
        let Named { index, key, wrong } = object;
        let errors = match (wrong, written) {
            (None, Written { nulls: Ok(()), metadata: Ok(metadata), body: Ok(body) }) => {
                match body.build(&key, &metadata, self.root_namespace) {
                    Ok(built) => {
                        let allow = metadata.annotations.get(ALLOW).map(|codes| codes.as_str().into());
                        return self.found(key, allow, Ok(Arc::new(built)));
                    }
                    Err(invalid) => {
                        let located =
                            |one: meshgate_policy::Invalid| self.parts.error_at(index, &one.path, one.message);
                        invalid.into_iter().map(located).collect()
                    }
                }
            }
            // One is enough, as the others often follow from it.
            (wrong, Written { nulls, metadata, body }) => {
                let all = [wrong, metadata.err(), nulls.err(), body.err()];
                all.into_iter().flatten().take(1).collect()
            }
        };
        let selector = if key.kind.is_security() { self.parts.selector(index) } else { None };
        self.refuse(key, errors, selector);
    }

    fn refuse(&mut self, key: Key, errors: Vec<YamlError>, selector: Option<BTreeMap<String, String>>) {
        let problems = errors.into_iter().map(|error| error.into_problem(self.file).about(&key)).collect();
        self.found(key, None, Err(Broken { problems, selector }));
    }

    fn found(&mut self, key: Key, allow: Option<Box<str>>, outcome: Result<Arc<Object>, Broken>) {
        let (place, text) = (self.place(), self.parts.text());
        self.reading.found.push(Found { key, place, text, allow, outcome });
    }

    fn fail_unnamed(&mut self, error: YamlError) {
        self.reading.problems.push(error.into_problem(self.file));
        self.reading.unnamed = true;
    }

    fn place(&self) -> Place {
        Place { file: self.file.to_path_buf(), line: self.parts.document().line() }
    }
}

#[cfg(test)]
mod tests;
