//! What a pod must not be or have for the mesh to hold in it, and what its owner should know.

use meshgate_config::Problem;
use meshgate_config::manifest::Sheet;

use super::object::Object;
use super::sidecar::{INBOUND_PORT, INIT, OUTBOUND_PORT, PROXY, UID, VOLUMES};
use super::{Args, Report};

/// Containers of other meshes: two redirections in one pod take each other's traffic.
const OTHER_MESHES: [&str; 5] = ["istio-proxy", "istio-init", "istio-validation", "linkerd-proxy", "linkerd-init"];

/// What the bootstrap of deploy/ needs to drain: `timeouts.drainDelay` and `timeouts.drain` together, in seconds.
const DRAIN: u64 = 25;

/// Refuses the template, or warns.
///
/// # Errors
/// The first reason for which it cannot be in the mesh.
pub(super) fn judge(sheet: &Sheet, object: &Object, args: &Args, report: &mut Report) -> Result<(), Problem> {
    refuse_pod(sheet, object)?;
    let own: Vec<_> = object.containers(sheet, "containers");
    let init: Vec<_> = object.containers(sheet, "initContainers");
    if own.is_empty() {
        return Err(object.problem(sheet, &object.at("spec.containers"), "there is no container in it"));
    }
    for (path, name) in own.iter().chain(&init) {
        refuse_name(sheet, object, path, name)?;
        refuse_ports(sheet, object, path, args)?;
        warn_container(sheet, object, path, report);
    }
    for (path, _) in &own {
        refuse_user(sheet, object, path)?;
    }
    for (path, name) in object.containers(sheet, "volumes") {
        if VOLUMES.contains(&name.as_str()) {
            let message = format!("there is a volume `{name}` that is not ours ({}): rename it", unmarked());
            return Err(object.problem(sheet, &path, message));
        }
    }
    warn_pod(sheet, object, args, &init, report);
    Ok(())
}

fn unmarked() -> String {
    format!("the template has no annotation {}", super::object::INJECTED)
}

fn refuse_pod(sheet: &Sheet, object: &Object) -> Result<(), Problem> {
    let path = object.at("spec.hostNetwork");
    if sheet.is_true(&path) {
        let message = "a pod in the host's network cannot be in the mesh: redirection would capture the whole node. Remove it, or leave \
            the pod out with the label sidecar.istio.io/inject: \"false\"";
        return Err(object.problem(sheet, &path, message));
    }
    let path = object.at("spec.os.name");
    if sheet.scalar(&path).is_some_and(|os| os != "linux") {
        return Err(object.problem(sheet, &path, "only Linux can redirect traffic; leave the pod out"));
    }
    refuse_user(sheet, object, &object.at("spec"))
}

/// The redirection exempts the proxy by its user.
fn refuse_user(sheet: &Sheet, object: &Object, holder: &str) -> Result<(), Problem> {
    let path = format!("{holder}.securityContext.runAsUser");
    if sheet.integer(&path) != Some(u64::from(UID)) {
        return Ok(());
    }
    let message = format!(
        "user {UID} is the proxy's: what runs as that user bypasses the mesh. Give the application another one"
    );
    Err(object.problem(sheet, &path, message))
}

fn refuse_name(sheet: &Sheet, object: &Object, path: &str, name: &str) -> Result<(), Problem> {
    let message = if [INIT, PROXY].contains(&name) {
        format!("there is a container `{name}` that is not ours ({}): rename it", unmarked())
    } else if OTHER_MESHES.contains(&name) {
        format!("container `{name}` belongs to another mesh: take the pod out of that one first")
    } else {
        return Ok(());
    };
    Err(object.problem(sheet, path, message))
}

fn refuse_ports(sheet: &Sheet, object: &Object, container: &str, args: &Args) -> Result<(), Problem> {
    for index in 0..sheet.length(&format!("{container}.ports")) {
        let path = format!("{container}.ports[{index}].containerPort");
        let Some(port) = sheet.integer(&path) else { continue };
        if [OUTBOUND_PORT, INBOUND_PORT, args.admin_port].map(u64::from).contains(&port) {
            return Err(object.problem(
                sheet,
                &path,
                format!("port {port} is the proxy's; give the application another one"),
            ));
        }
    }
    Ok(())
}

fn warn_container(sheet: &Sheet, object: &Object, container: &str, report: &mut Report) {
    let security = format!("{container}.securityContext");
    let path = format!("{security}.privileged");
    if sheet.is_true(&path) {
        report.warn(object, sheet, &path, "a privileged container can undo the redirection, and read the proxy's key");
    }
    for index in 0..sheet.length(&format!("{security}.capabilities.add")) {
        let path = format!("{security}.capabilities.add[{index}]");
        if let Some(name @ ("NET_ADMIN" | "CAP_NET_ADMIN" | "ALL" | "SYS_ADMIN" | "CAP_SYS_ADMIN")) =
            sheet.scalar(&path)
        {
            report.warn(object, sheet, &path, format!("with {name} the container can undo the redirection"));
        }
    }
}

fn warn_pod(sheet: &Sheet, object: &Object, args: &Args, init: &[(String, String)], report: &mut Report) {
    let path = object.at("spec.shareProcessNamespace");
    if sheet.is_true(&path) {
        let message = "the containers see each other's processes: root in any of them can read the proxy's key";
        report.warn(object, sheet, &path, message);
    }
    let path = object.at("spec.terminationGracePeriodSeconds");
    if sheet.integer(&path).is_some_and(|seconds| seconds < DRAIN) {
        let message =
            format!("the proxy may need {DRAIN} s to drain (timeouts.drainDelay and timeouts.drain of the bootstrap)");
        report.warn(object, sheet, &path, message);
    }
    if args.native_sidecar {
        return;
    }
    for (path, name) in init {
        let message = format!(
            "init container `{name}` runs before the proxy and after the redirection: it reaches nobody. Use --native-sidecar"
        );
        report.warn(object, sheet, path, message);
    }
    let ends = ["Job", "CronJob"].contains(&object.kind.as_str())
        || sheet.scalar(&object.at("spec.restartPolicy")).is_some_and(|policy| policy != "Always");
    if ends {
        let message = "the pod is to end, and does not while the proxy runs. Use --native-sidecar, or set admin.quit in the bootstrap and \
            let the application POST /quitquitquit to the admin port when it is done";
        report.warn(object, sheet, &object.at("spec"), message);
    }
}
