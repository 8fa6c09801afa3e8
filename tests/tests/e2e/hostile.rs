//! Callers and applications that mean harm, or behave as if they did. Raw bytes, at both of the pair's doors: the backend's
//! inbound side from outside of the mesh, and the frontend's outbound side.

mod authority;
mod descriptors;
mod flood;
pub(crate) mod frames;
mod framing;
mod full;
mod generated;
mod headers;
mod honest;
mod http2;
mod http2_upstream;
mod limits;
mod path;
mod stall;
mod upstream;

use crate::support::app::App;
use crate::support::mesh::Mesh;
use crate::support::wire::Wire;

/// Who speaks to which door.
const DOORS: [&str; 2] = ["inbound", "outbound"];

/// A connection to one of the two doors.
async fn knock(mesh: &Mesh, door: &str) -> Wire {
    if door == "inbound" { mesh.outside().await } else { mesh.wire().await }
}

/// Neither door answers `request` with anything but `status`, the application sees nothing of it, and the connection is
/// closed, so that nothing behind it is read as another request.
async fn is_refused(mesh: &Mesh, app: &App, status: u16, request: &str) {
    for door in DOORS {
        let what = format!("{door}: {}", request.escape_debug());
        let mut client = knock(mesh, door).await;
        client.send(request).await;
        let answer = client.head().await.unwrap_or_default();
        assert_eq!(answer.status(), status, "{what}");
        client.end().await;
        let rest = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(!rest.contains("HTTP/1.1"), "{what}: a second answer: {rest}");
    }
    let seen = app.take_seen();
    assert!(seen.is_empty(), "{}: reached the application: {seen:?}", request.escape_debug());
}
