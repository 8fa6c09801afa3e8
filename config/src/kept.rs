//! What stands after a reading: each object in its newest good version.
//!
//! The rules, each object for itself:
//! * good now: that version stands;
//! * bad now, good before: the version before stands;
//! * bad now and never good: nothing stands; but a security object denies what it selects, and a MeshConfig puts
//!   traffic policy mode in force;
//! * not there now: gone, unless the place it stood in could not be read, or holds something that cannot be named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshgate_policy::{PeerAuthentication, Policy, RequestAuthentication, SmiMode};

use crate::folder::Folder;
use crate::kind::Kind;
use crate::problem::Problem;
use crate::reader::{self, Documents};
use crate::resource::{Broken, Found, Key, Object, Place};

/// One look at the folder, understood as far as it can be.
#[derive(Debug)]
pub(crate) struct Reading {
    /// In the order of file names, then lines.
    found: Vec<Found>,
    problems: Vec<Problem>,
    /// Files and folders whose former objects stay, because what is in them now is not known.
    obscured: BTreeSet<PathBuf>,
}

/// The objects in force.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    objects: BTreeMap<Key, Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    place: Place,
    text: Arc<str>,
    allow: Option<Box<str>>,
    object: Version,
}

#[derive(Clone, Debug)]
enum Version {
    Good(Arc<Object>),
    /// Never good, and what it selects is denied.
    Denied {
        policy: Arc<Policy>,
        peer_authentication: Option<Arc<PeerAuthentication>>,
    },
}

impl Kept {
    fn essence<'a>((key, kept): (&'a Key, &'a Kept)) -> (&'a Key, &'a Place, &'a str) {
        (key, &kept.place, &kept.text)
    }
}

impl Reading {
    /// A first and only look.
    pub(crate) fn new(folder: &Folder, root_namespace: &str) -> Reading {
        Reading::again(folder, &mut Documents::new(root_namespace))
    }

    /// A look that reads what is not among `documents`, and leaves there what it saw.
    pub(crate) fn again(folder: &Folder, documents: &mut Documents) -> Reading {
        documents.begin();
        let mut reading =
            Reading { found: Vec::new(), problems: folder.problems.clone(), obscured: folder.obscured.clone() };
        for (path, text) in &folder.files {
            let file = reader::read(path, text, documents);
            reading.found.extend(file.found);
            reading.problems.extend(file.problems);
            if file.unnamed {
                reading.obscured.insert(path.clone());
            }
        }
        reading
    }

    /// How many were found, good ones and bad.
    pub(crate) fn objects(&self) -> usize {
        self.found.len()
    }

    /// Lets all former objects below `path` stay.
    pub(crate) fn obscure(&mut self, path: &Path, problem: Problem) {
        self.obscured.insert(path.to_path_buf());
        self.problems.push(problem);
    }
}

impl Standing {
    /// Would an object go if `reading` were believed?
    pub(crate) fn loses_any(&self, reading: &Reading) -> bool {
        let found: BTreeSet<&Key> = reading.found.iter().map(|found| &found.key).collect();
        self.objects.iter().any(|(key, kept)| !found.contains(key) && !is_obscured(&reading.obscured, &kept.place))
    }

    /// What stands after `reading`, and everything that was wrong with it.
    pub(crate) fn after(&self, reading: Reading, root_namespace: &str) -> (Standing, Vec<Problem>) {
        let mut problems = reading.problems;
        let mut objects = BTreeMap::new();
        let mut places: BTreeMap<Key, Place> = BTreeMap::new();
        for found in reading.found {
            if let Some(first) = places.get(&found.key) {
                let message = format!("is already defined at {first}, which is kept");
                problems.push(Problem::error(&found.place.file, message).at(Some(found.place.line)).about(&found.key));
                continue;
            }
            places.insert(found.key.clone(), found.place.clone());
            if let Some(kept) = self.version(&found, root_namespace) {
                objects.insert(found.key, kept);
            }
            if let Err(broken) = found.outcome {
                problems.extend(broken.problems);
            }
        }
        for (key, kept) in &self.objects {
            if !places.contains_key(key) && is_obscured(&reading.obscured, &kept.place) {
                objects.insert(key.clone(), kept.clone());
            }
        }
        (Standing { objects }, problems)
    }

    fn version(&self, found: &Found, root_namespace: &str) -> Option<Kept> {
        let kept =
            |object| Kept { place: found.place.clone(), text: found.text.clone(), allow: found.allow.clone(), object };
        match &found.outcome {
            Ok(object) => Some(kept(Version::Good(object.clone()))),
            Err(broken) => match self.objects.get(&found.key) {
                Some(last @ Kept { object: Version::Good(_), .. }) => Some(last.clone()),
                _ if found.key.kind.is_security() => Some(kept(denied(&found.key, broken, root_namespace))),
                // The strict mode is the one that lets in less.
                _ if found.key.kind == Kind::MeshConfig => {
                    Some(kept(Version::Good(Arc::new(Object::MeshConfig(SmiMode::TrafficPolicy)))))
                }
                // A TrafficTarget only lets in: without it there is less, which is right.
                _ => None,
            },
        }
    }

    /// How many there are, good or not.
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// The good objects, by kind, namespace and name.
    pub(crate) fn good(&self) -> impl Iterator<Item = (&Key, &Place, &Object)> {
        self.objects.iter().filter_map(|(key, kept)| match &kept.object {
            Version::Good(object) => Some((key, &kept.place, &**object)),
            Version::Denied { .. } => None,
        })
    }

    /// Where a good object stands.
    pub(crate) fn place(&self, key: &Key) -> Option<&Place> {
        let kept = self.objects.get(key)?;
        matches!(kept.object, Version::Good(_)).then_some(&kept.place)
    }

    /// Where the objects of these names (`Kind namespace/name`) stand, `file:line`, good or not.
    pub(crate) fn places(&self, names: &BTreeSet<String>) -> BTreeMap<String, String> {
        if names.is_empty() {
            return BTreeMap::new();
        }
        let place = |(key, kept): (&Key, &Kept)| {
            let name = key.to_string();
            names.contains(&name).then(|| (name, kept.place.to_string()))
        };
        self.objects
            .iter()
            .filter(|(key, _)| key.kind.is_about_access() || key.kind.is_istio())
            .filter_map(place)
            .collect()
    }

    /// The objects that ask not to hear of some findings, with the codes as written.
    pub(crate) fn allowances(&self) -> impl Iterator<Item = (&Key, &Place, &str)> {
        self.objects.iter().filter_map(|(key, kept)| Some((key, &kept.place, kept.allow.as_deref()?)))
    }

    /// All policies, with those that stand for what could not be read.
    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        let policy = |kept: &Kept| match &kept.object {
            Version::Good(object) => match &**object {
                Object::AuthorizationPolicy(policy) => Some(policy.clone()),
                _ => None,
            },
            Version::Denied { policy, .. } => Some(policy.clone()),
        };
        self.objects.values().filter_map(policy).collect()
    }

    /// All PeerAuthentications, with those that stand for what could not be read.
    pub(crate) fn peer_authentications(&self) -> Vec<Arc<PeerAuthentication>> {
        let peer_authentication = |kept: &Kept| match &kept.object {
            Version::Good(object) => match &**object {
                Object::PeerAuthentication(object) => Some(object.clone()),
                _ => None,
            },
            Version::Denied { peer_authentication, .. } => peer_authentication.clone(),
        };
        self.objects.values().filter_map(peer_authentication).collect()
    }

    /// All RequestAuthentications that could be read; a policy stands for each that could not.
    pub(crate) fn request_authentications(&self) -> Vec<Arc<RequestAuthentication>> {
        let request_authentication = |object: &Object| match object {
            Object::RequestAuthentication(object) => Some(object.clone()),
            _ => None,
        };
        self.good().filter_map(|(.., object)| request_authentication(object)).collect()
    }

    /// The same objects from the same text at the same places.
    pub(crate) fn is_same(&self, other: &Standing) -> bool {
        self.objects.iter().map(Kept::essence).eq(other.objects.iter().map(Kept::essence))
    }
}

fn denied(key: &Key, broken: &Broken, root_namespace: &str) -> Version {
    let why = broken.problems.first().map(ToString::to_string).unwrap_or_default();
    let selector = broken.selector.clone();
    let peer_authentication = (key.kind == Kind::PeerAuthentication)
        .then(|| Arc::new(PeerAuthentication::unreadable(key.object_name(), selector.clone(), root_namespace)));
    Version::Denied { policy: Arc::new(Policy::unreadable(key.object_name(), selector, &why)), peer_authentication }
}

fn is_obscured(obscured: &BTreeSet<PathBuf>, place: &Place) -> bool {
    obscured.iter().any(|path| place.file.starts_with(path))
}
