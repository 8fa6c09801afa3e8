//! The typed part of a document, by its kind.

use std::sync::Arc;

use meshgate_policy::Invalid;
use meshgate_policy::istio::{AuthorizationPolicySpec, DRY_RUN, PeerAuthenticationSpec, RequestAuthenticationSpec};
use meshgate_policy::smi::{TcpRouteSpec, TrafficTargetSpec};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny};

use crate::document::Document;
use crate::endpoints::{EndpointsDocument, SliceDocument};
use crate::kind::Kind;
use crate::multicluster::export::{ExportSpec, McsExportSpec};
use crate::multicluster::import::{ImportSpec, McsImportSpec};
use crate::multicluster::policy::PolicySpec;
use crate::resource::{Key, Metadata, Object};
use crate::service::ServiceDocument;
use crate::smi::{GroupDocument, MeshConfigDocument};
use crate::split::SplitSpec;
use crate::workload::{PodDocument, WorkloadEntryDocument};

/// A document as written, not yet checked beyond its types.
pub(crate) enum Body {
    Service(ServiceDocument),
    Endpoints(EndpointsDocument),
    EndpointSlice(SliceDocument),
    Pod(PodDocument),
    WorkloadEntry(WorkloadEntryDocument),
    AuthorizationPolicy(Document<AuthorizationPolicySpec>),
    PeerAuthentication(Document<PeerAuthenticationSpec>),
    TrafficTarget(Document<TrafficTargetSpec>),
    HttpRouteGroup(GroupDocument),
    TcpRoute(Document<Option<TcpRouteSpec>>),
    MeshConfig(MeshConfigDocument),
    TrafficSplit(Document<SplitSpec>),
    RequestAuthentication(Document<RequestAuthenticationSpec>),
    ServiceExport(Document<ExportSpec>),
    ServiceImport(Document<ImportSpec>),
    GlobalTrafficPolicy(Document<PolicySpec>),
    McsServiceExport(Document<Option<McsExportSpec>>),
    McsServiceImport(Document<McsImportSpec>),
    /// Refused by [`Body::build`]; its kind has been found wrong before.
    UnknownSecurity,
    /// Its name is all there is to know.
    Named(Object),
}

/// Reads a whole object as the body of its kind.
#[derive(Clone, Copy)]
pub(crate) struct BodySeed(pub(crate) Kind);

impl<'de> DeserializeSeed<'de> for BodySeed {
    type Value = Body;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body, D::Error> {
        let ignore = |deserializer| IgnoredAny::deserialize(deserializer);
        match self.0 {
            Kind::Service => ServiceDocument::deserialize(deserializer).map(Body::Service),
            Kind::Endpoints => EndpointsDocument::deserialize(deserializer).map(Body::Endpoints),
            Kind::EndpointSlice => SliceDocument::deserialize(deserializer).map(Body::EndpointSlice),
            Kind::Pod => PodDocument::deserialize(deserializer).map(Body::Pod),
            Kind::WorkloadEntry => WorkloadEntryDocument::deserialize(deserializer).map(Body::WorkloadEntry),
            Kind::AuthorizationPolicy => Document::deserialize(deserializer).map(Body::AuthorizationPolicy),
            Kind::PeerAuthentication => Document::deserialize(deserializer).map(Body::PeerAuthentication),
            Kind::TrafficTarget => Document::deserialize(deserializer).map(Body::TrafficTarget),
            Kind::HttpRouteGroup => GroupDocument::deserialize(deserializer).map(Body::HttpRouteGroup),
            Kind::TcpRoute => Document::deserialize(deserializer).map(Body::TcpRoute),
            Kind::MeshConfig => MeshConfigDocument::deserialize(deserializer).map(Body::MeshConfig),
            Kind::TrafficSplit => Document::deserialize(deserializer).map(Body::TrafficSplit),
            Kind::UdpRoute => ignore(deserializer).map(|_| Body::Named(Object::UdpRoute)),
            Kind::Namespace => ignore(deserializer).map(|_| Body::Named(Object::Namespace)),
            Kind::ServiceAccount => ignore(deserializer).map(|_| Body::Named(Object::ServiceAccount)),
            Kind::RequestAuthentication => Document::deserialize(deserializer).map(Body::RequestAuthentication),
            Kind::ServiceExport => Document::deserialize(deserializer).map(Body::ServiceExport),
            Kind::ServiceImport => Document::deserialize(deserializer).map(Body::ServiceImport),
            Kind::GlobalTrafficPolicy => Document::deserialize(deserializer).map(Body::GlobalTrafficPolicy),
            Kind::McsServiceExport => Document::deserialize(deserializer).map(Body::McsServiceExport),
            Kind::McsServiceImport => Document::deserialize(deserializer).map(Body::McsServiceImport),
            Kind::UnknownSecurity => ignore(deserializer).map(|_| Body::UnknownSecurity),
        }
    }
}

impl Body {
    /// Checks what types cannot say.
    pub(crate) fn build(self, key: &Key, metadata: &Metadata, root_namespace: &str) -> Result<Object, Vec<Invalid>> {
        if key.kind != Kind::AuthorizationPolicy && key.kind.is_istio() && metadata.annotations.contains_key(DRY_RUN) {
            return Err(vec![Invalid {
                path: format!("metadata.annotations[{DRY_RUN}]"),
                message: format!("only an AuthorizationPolicy can be tried out: this {} is in force", key.kind),
            }]);
        }
        match self {
            Body::Service(document) => document.build(metadata).map(Object::Service),
            Body::Endpoints(document) => document.build(&key.namespace).map(Object::Endpoints),
            Body::EndpointSlice(document) => document.build(&key.namespace, metadata).map(Object::EndpointSlice),
            Body::Pod(document) => document.build(metadata).map(Object::Pod),
            Body::WorkloadEntry(document) => document.build(metadata).map(Object::WorkloadEntry),
            Body::AuthorizationPolicy(document) => {
                let policy = document.build(key.object_name(), metadata)?;
                Ok(Object::AuthorizationPolicy(Arc::new(policy)))
            }
            Body::PeerAuthentication(document) => {
                let object = document.build(key.object_name(), root_namespace)?;
                Ok(Object::PeerAuthentication(Arc::new(object)))
            }
            Body::TrafficTarget(document) => document.build(key.object_name(), metadata).map(Object::TrafficTarget),
            Body::HttpRouteGroup(document) => Ok(Object::HttpRouteGroup(Arc::new(document.build()?))),
            Body::TcpRoute(document) => Ok(Object::TcpRoute(Arc::new(document.build()?))),
            Body::MeshConfig(document) => Ok(Object::MeshConfig(document.mode())),
            Body::TrafficSplit(document) => document.build(key).map(Object::TrafficSplit),
            Body::RequestAuthentication(document) => {
                let object = document.build(key.object_name())?;
                Ok(Object::RequestAuthentication(Arc::new(object)))
            }
            Body::ServiceExport(document) => document.build().map(Object::ServiceExport),
            Body::McsServiceExport(document) => document.build(metadata).map(Object::ServiceExport),
            Body::ServiceImport(document) => document.build(metadata).map(Object::ServiceImport),
            Body::McsServiceImport(document) => document.build(metadata).map(Object::ServiceImport),
            Body::GlobalTrafficPolicy(document) => document.build().map(Object::GlobalTrafficPolicy),
            Body::UnknownSecurity => Err(vec![Invalid { path: "kind".to_owned(), message: "is not known".to_owned() }]),
            Body::Named(object) => Ok(object),
        }
    }
}

/// Reads the `metadata` of an object and passes over the rest.
#[derive(Clone, Copy)]
pub(crate) struct MetadataSeed;

impl<'de> DeserializeSeed<'de> for MetadataSeed {
    type Value = Metadata;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Metadata, D::Error> {
        #[derive(serde::Deserialize)]
        struct Frame {
            #[serde(default, deserialize_with = "crate::resource::nullable")]
            metadata: Metadata,
        }
        Frame::deserialize(deserializer).map(|frame| frame.metadata)
    }
}
