//! Walk-through B's mesh: three clusters of one trust domain, a root of its own for each, a gateway before each.
//!
//! `httpbin` runs in all of them; `curl` and `stranger` in the second one call it. What is in force is said for all three
//! clusters at once ([`ThreeClusters::in_force`]), so that a step is a state and not a history.

mod httpbin;
mod member;
pub mod setting;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use http::Method;

use crate::sandbox::{Answer, PodSpec, Sandbox, SandboxError, Sidecar, request, until};
pub use httpbin::Httpbin;
pub use member::Member;
use member::Plan;
use setting::Setting;

/// What curl calls.
pub const HTTPBIN: &str = "httpbin.httpbin:8080";

/// Where curl's connections count as redirected from the cluster address of that service.
pub const VIRTUAL_PORT: u16 = 15101;

/// Where they count as redirected from 10.96.0.30:9000, which is free for a service of bytes.
pub const BYTES_PORT: u16 = 15102;

const VIRTUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 20)), 8080);
const BYTES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 30)), 9000);

/// The clusters: their names, which their keys end with; the account of `httpbin`; the name and account of what else they run;
/// the ports of their gateways on the address that all three share, for tunnels and for plain HTTP.
const CLUSTERS: [(&str, &str, [&str; 2], [u16; 2]); 3] = [
    ("cluster-1", "httpbin", ["different", "httpbin"], [15081, 15181]),
    ("cluster-2", "default", ["different", "default"], [15082, 15182]),
    ("cluster-3", "httpbin", ["canary", "httpbin-canary"], [15083, 15183]),
];

/// The port of each gateway on an address of its own.
const OWN_PORT: u16 = 15443;

/// Where the gateways are for curl's cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateways {
    /// On one address, at different ports.
    OneAddress,
    /// On different addresses, at one port.
    OnePort,
}

/// Walk-through B's mesh.
#[derive(Debug)]
pub struct ThreeClusters {
    /// The clusters, in order.
    pub members: [Member; 3],
    /// The caller, of account `curl` in namespace `curl`, in the second cluster.
    pub curl: Sidecar,
    /// Another one there, of account `stranger`.
    pub stranger: Sidecar,
    gateways: Gateways,
}

impl ThreeClusters {
    /// Makes the clusters and starts everything, with nothing in force.
    ///
    /// # Errors
    /// Those of [`Sandbox::start`].
    pub async fn start(binary: &Path) -> Result<Self, SandboxError> {
        let [mut one, mut two, mut three] = Sandbox::beside(binary, CLUSTERS.map(|(name, ..)| name))?;
        let host = one.next_address();
        let own = CLUSTERS.map(|_| SocketAddr::new(one.next_address(), OWN_PORT));
        let [first, second, third] = CLUSTERS.map(|(.., [tunnels, _])| Some(SocketAddr::new(host, tunnels)));
        one.know(&two, second);
        one.know(&three, third);
        two.know(&one, first);
        two.know(&three, third);
        three.know(&one, first);
        three.know(&two, second);
        let [curl_address, stranger_address] = [two.next_address(), two.next_address()];
        let start = async |sandbox: Sandbox, (name, account, second, ports): (_, _, _, [u16; 2]), gateway| {
            let shared = ports.map(|port| SocketAddr::new(host, port));
            Member::start(Plan { sandbox, name, account, second, gateway, shared }).await
        };
        let [(a, at_a), (b, at_b), (c, at_c)] = [(CLUSTERS[0], own[0]), (CLUSTERS[1], own[1]), (CLUSTERS[2], own[2])];
        let members = [start(one, a, at_a).await?, start(two, b, at_b).await?, start(three, c, at_c).await?];
        let [_, second, _] = &members;
        let curl = second.sandbox.start(&caller("curl"), curl_address).await?;
        let stranger = second.sandbox.start(&caller("stranger"), stranger_address).await?;
        Ok(Self { members, curl, stranger, gateways: Gateways::OneAddress })
    }

    /// Puts resources in force in all clusters, and waits until every process has read them. What an import says of the
    /// guide's gateways is said of ours.
    ///
    /// # Errors
    /// They could not be written, or were not read.
    pub async fn in_force(&mut self, setting: Setting) -> Result<(), SandboxError> {
        let mut waiting = Vec::new();
        for (index, state) in setting.states().into_iter().enumerate() {
            let documents: Vec<_> = state.documents.iter().map(|document| self.ours(document)).collect();
            let Some(member) = self.members.get_mut(index) else { break };
            let yaml = documents.join("---\n") + &member.pods(state.has_httpbin);
            if yaml == member.in_force {
                continue;
            }
            let mut processes = vec![&member.httpbin, &member.second, &member.gateway];
            if index == 1 {
                processes.extend([&self.curl, &self.stranger]);
            }
            for process in processes {
                waiting.push((process.pid(), Read::of(process).await));
            }
            member.sandbox.write_resource("rules.yaml", &yaml)?;
            member.in_force = yaml;
        }
        for process in self.processes() {
            if let Some((_, before)) = waiting.iter().find(|(pid, _)| *pid == process.pid()) {
                let newer = async || (Read::of(process).await.is_after(before)).then_some(());
                until("the resources are read", newer).await?;
            }
        }
        Ok(())
    }

    /// Every process there is.
    pub fn processes(&self) -> impl Iterator<Item = &Sidecar> {
        let all = self.members.iter().flat_map(|member| [&member.httpbin, &member.second, &member.gateway]);
        all.chain([&self.curl, &self.stranger])
    }

    /// Lets curl's cluster find the gateways elsewhere; resources are to be put in force again. curl's sidecar starts anew.
    ///
    /// # Errors
    /// Those of [`Sandbox::start`].
    pub async fn place(&mut self, gateways: Gateways) -> Result<(), SandboxError> {
        if self.gateways != gateways {
            self.gateways = gateways;
            let [one, two, three] = &mut self.members;
            let [first, third] = [one.tunnels(gateways), three.tunnels(gateways)];
            two.sandbox.know(&one.sandbox, first);
            two.sandbox.know(&three.sandbox, third);
            self.curl.kill();
            self.curl = two.sandbox.start(&caller("curl"), self.curl.address()).await?;
        }
        Ok(())
    }

    /// One request by curl, on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        request(self.curl.outbound(), HTTPBIN, Method::GET, path).await
    }

    /// Who answered, request by request: a cluster's name, or else what came.
    pub async fn who(&self, requests: usize) -> Vec<String> {
        let mut answers = Vec::new();
        for _ in 0..requests {
            answers.push(who(&self.get("/").await));
        }
        answers
    }

    fn ours(&self, document: &str) -> String {
        setting::placed(document, |cluster| {
            let member = self.members.iter().find(|member| member.sandbox.key() == Some(cluster))?;
            member.tunnels(self.gateways)
        })
    }
}

/// What a process has read so far.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    generation: f64,
    readings: f64,
}

impl Read {
    async fn of(process: &Sidecar) -> Self {
        Self::in_page(&process.admin_page("/metrics").await.unwrap_or_default())
    }

    /// As its metrics have it.
    pub fn in_page(page: &str) -> Self {
        let sum = |name: &str| {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Self { generation: sum("mesh_config_generation"), readings: sum("mesh_config_reloads_total") }
    }

    /// A gateway elsewhere that says something new makes a generation too, but no reading.
    pub fn is_after(self, before: &Self) -> bool {
        self.generation > before.generation && self.readings > before.readings
    }
}

/// The name of the cluster that answered, or else what came.
pub fn who(answer: &Answer) -> String {
    match answer {
        Answer::Http { status: 200, body, .. } => {
            let text = body.trim_end();
            let cluster = text.strip_prefix("Hi, I am from ").and_then(|rest| rest.split_once(' '));
            cluster.map_or(text, |(cluster, _)| cluster).to_owned()
        }
        other => other.to_string(),
    }
}

/// How often each is there.
pub fn counted(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_default() += 1;
    }
    counts
}

fn caller(name: &str) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        namespace: "curl".to_owned(),
        service_account: name.to_owned(),
        app: name.to_owned(),
        outbound: vec![(VIRTUAL_PORT, VIRTUAL), (BYTES_PORT, BYTES)],
        bootstrap: "workers: 2\n".to_owned(),
        ..PodSpec::default()
    }
}
