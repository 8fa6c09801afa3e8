// The page itself: takes a state a second from /events and shows it. Nothing from the wire becomes anything but text.
const WINDOW = 10; // states that rates are worked out over
const $ = (id) => document.getElementById(id);

// ---- small things

const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const make = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const show = (node, on) => { node.hidden = !on; };
const is = (value) => value !== undefined && value !== null && value !== "" && value !== "unknown";

const count = (n) => n >= 1e9 ? `${(n / 1e9).toFixed(1)}G` : n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)}k` : `${n}`;
const bytes = (n) => n >= 1 << 30 ? `${(n / (1 << 30)).toFixed(1)} GiB` : n >= 1 << 20 ? `${(n / (1 << 20)).toFixed(1)} MiB`
  : n >= 1024 ? `${(n / 1024).toFixed(1)} KiB` : `${n} B`;
const rate = (n) => n === 0 ? "0" : n < 10 ? n.toFixed(1) : Math.round(n).toString();
const share = (n) => n === null ? "–" : n === 1 ? "100%" : `${Math.min(99.9, n * 100).toFixed(1)}%`;
const millis = (n) => n === null ? "–" : n < 10 ? `${n.toFixed(1)} ms` : n < 10000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`;
const span = (seconds) => {
  const [d, h, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return seconds <= 0 ? "ended" : d > 2 ? `${d} days` : d || h ? `${d * 24 + h} h ${m} min` : m ? `${m} min` : `${seconds} s`;
};

const short = (seconds) => seconds <= 0 ? ["ended", ""] : seconds >= 2 * 86400 ? [`${Math.floor(seconds / 86400)}`, "days left"]
  : seconds >= 7200 ? [`${Math.floor(seconds / 3600)}`, "hours left"] : [`${Math.ceil(seconds / 60)}`, "min left"];

// Keeps the children of `parent` in step with `items`, one for each key, so that focus and what is open stay.
const sync = (parent, items, keyOf, create, update) => {
  const known = parent.known || (parent.known = new Map()), seen = new Set();
  let before = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    let child = known.get(key);
    if (!child) known.set(key, child = create(item));
    update(child, item);
    if (child !== before) parent.insertBefore(child, before); else before = before.nextSibling;
  }
  for (const [key, child] of known) if (!seen.has(key)) { child.remove(); known.delete(key); }
};
const row = (labels, numbers) => () => {
  const made = make("tr");
  made.setAttribute("role", "row");
  labels.forEach((label, index) => {
    const cell = make("td", numbers.includes(index) ? "n" : "");
    cell.setAttribute("role", "cell");
    cell.dataset.label = label;
    cell.append(make("span"));
    made.append(cell);
  });
  return made;
};
// A cell's text, a smaller second line, and a class that says more than the colour only.
const cell = (tr, index, text, small, className) => {
  const inner = tr.children[index].firstChild;
  const key = JSON.stringify([text, small, className]);
  if (inner.shown === key) return;
  inner.shown = key;
  inner.className = className || "";
  // A port stays with the last label before it: alone on a line nobody knows whose it is.
  const port = /[^.]{1,16}:\d+$/.exec(text);
  inner.replaceChildren(port ? text.slice(0, port.index) : text);
  if (port) inner.append(make("span", "port", port[0]));
  if (small) inner.append(make("small", "", small));
};

// ---- names

const account = (principal) => {
  const found = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/(.+)$/.exec(principal || "");
  return found ? `${found[1]}/${found[2]}` : principal;
};
const caller = (source) => {
  const at = is(source.cluster) && state && source.cluster !== state.process.cluster ? ` · ${source.cluster.split("/").pop()}` : "";
  if (is(source.workload)) return { name: source.workload, sub: `${source.namespace}${at}` };
  if (is(source.principal)) return { name: account(source.principal).split("/").pop(), sub: `${source.namespace}${at} · by identity` };
  return { name: "unknown caller", sub: "no identity" };
};
const called = (destination) => {
  if (is(destination.service)) return { name: destination.name, sub: destination.namespace };
  const workloads = destination.workloads || [];
  if (workloads.length) return { name: workloads[0].split("/").pop(), sub: `${workloads[0].split("/")[0]} · no service` };
  return { name: "elsewhere", sub: "no known service" };
};
const PROTECTION = {
  mutual_tls: ["mutual TLS", "state good"], plaintext: ["plaintext", "state warn"],
  mixed: ["partly plaintext", "state warn"], unknown: ["unknown", "state soft"],
};

// ---- rates, from counters that only grow

const history = [];
let state = null;
const keyOf = (edge) => JSON.stringify([edge.reporter, edge.source, edge.destination.service,
  is(edge.destination.service) ? "" : edge.destination.workloads]);
const quantile = (buckets, bounds, q) => {
  const total = buckets.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  let below = 0, lower = 0;
  for (const [index, n] of buckets.entries()) {
    const upper = index < bounds.length ? bounds[index] : lower;
    if (n && below + n >= q * total) return lower + (upper - lower) * ((q * total - below) / n);
    below += n;
    lower = upper;
  }
  return lower;
};
const measured = (edge, old, seconds, bounds) => {
  const since = (path) => {
    const [group, field] = path;
    const now = edge[group][field], then = old ? old[group][field] : now;
    return now >= then ? now - then : now; // it began anew
  };
  const requests = since(["requests", "total"]), connections = since(["tcp", "opened"]);
  const recent = requests + connections > 0;
  const of = (path) => recent ? since(path) : edge[path[0]][path[1]];
  const all = of(["requests", "total"]) + of(["tcp", "opened"]);
  const refused = of(["requests", "refused"]) + of(["tcp", "refused"]);
  const good = of(["requests", "ok"]) + Math.max(0, of(["tcp", "opened"]) - of(["tcp", "refused"]));
  const failed = since(["requests", "client_errors"]) + since(["requests", "server_errors"]) + since(["requests", "unanswered"])
    + since(["tcp", "refused"]);
  const before = recent && old ? old.latency.buckets : null;
  const buckets = edge.latency.buckets.map((n, index) => before ? Math.max(0, n - before[index]) : n);
  return {
    all, refused, recent: requests + connections, failed, buckets, lately: { good: recent ? good : 0, refused: recent ? refused : 0 },
    rate: (requests + connections) / seconds, success: all ? good / all : null,
    p50: quantile(buckets, bounds, 0.5), p99: quantile(buckets, bounds, 0.99),
    refusedInAll: edge.requests.refused + edge.tcp.refused, total: edge.requests.total + edge.tcp.opened,
    what: edge.requests.total ? "req/s" : "conn/s",
  };
};

// ---- the parts

const showHead = () => {
  const { process, certs, mtls } = state;
  put($("workload"), process.workload);
  document.title = `${process.workload} · meshgate`;
  const draining = process.blockers.includes("draining");
  put($("ready"), process.ready ? "Ready" : draining ? "Draining" : `Not ready: ${process.blockers.join(", ")}`);
  $("ready").className = `pill ${process.ready ? "good" : draining ? "warn" : "bad"}`;
  put($("facts"), `${process.role} in ${process.cluster.split("/").pop()} · ${account(certs.certificate.id)} · mTLS ${mtls.mode} · ${process.version}`);
};

const showTiles = (edges) => {
  const sum = (pick) => edges.reduce((total, edge) => total + pick(edge.m), 0);
  const recent = sum((m) => m.recent), good = sum((m) => m.lately.good);
  const buckets = Array.from({ length: 20 }, (_, index) => edges.reduce((n, edge) => n + (edge.m.recent ? edge.m.buckets[index] : 0), 0));
  const left = state.certs.certificate;
  const tiles = [
    ["Requests", rate(sum((m) => m.rate)), "/s"],
    ["Success", recent ? share(good / recent) : "–", "", recent > 0 && good / recent < 0.99],
    ["p99", millis(quantile(buckets, state.edges.bounds_ms, 0.99)), ""],
    ["Refused", String(sum((m) => m.lately.refused)), "in 10 s", sum((m) => m.lately.refused) > 0],
    ["Connections", count(state.process.connections[0]), `of ${count(state.process.connections[1])}`],
    ["Certificate", ...short(left.seconds_left), left.seconds_left * 10 < left.seconds_in_all],
  ];
  sync($("tiles"), tiles, (tile) => tile[0], (tile) => {
    const made = make("div");
    made.append(make("dt", "", tile[0]), make("dd"));
    return made;
  }, (made, [, value, unit, bad]) => {
    const dd = made.lastChild, shown = JSON.stringify([value, unit, bad]);
    if (dd.shown === shown) return;
    dd.shown = shown;
    dd.className = bad ? "bad-text" : "";
    dd.replaceChildren(value, " ", make("small", "", unit));
  });
};

const edgeRow = row(["From", "To", "Protection", "Rate", "Success", "p50", "p99", "Refused", "Total", "Bytes"], [3, 4, 5, 6, 7, 8, 9]);
const showEdges = () => {
  const own = { name: state.process.workload.split("/").pop(), sub: state.process.workload.split("/")[0] };
  const oldest = history[0], seconds = Math.max(1, (Date.parse(state.at) - Date.parse(oldest.at)) / 1000);
  const old = new Map(oldest.edges.edges.map((edge) => [keyOf(edge), edge]));
  const known = history.length > 1 ? (edge) => old.get(keyOf(edge)) || { requests: ZERO, tcp: ZERO, latency: { buckets: Array(20).fill(0) } } : () => null;
  const edges = state.edges.edges.map((edge) => {
    const m = measured(edge, known(edge), seconds, state.edges.bounds_ms);
    const from = caller(edge.source), to = called(edge.destination);
    const [protection] = PROTECTION[edge.security] || PROTECTION.unknown;
    return { edge, m, from, to, rate: m.rate, bad: m.failed > 0, security: edge.security,
      own: edge.reporter === "destination" ? "to" : edge.reporter === "source" ? "from" : "",
      short: `${rate(m.rate)}/s · ${share(m.success)}`,
      words: `${rate(m.rate)} ${m.what}, ${share(m.success)} successful, ${protection}` };
  });
  edges.sort((a, b) => b.m.total - a.m.total);
  // Where not all have room, what fails now comes before what only works, and what works before what rests; the order stays.
  const urgent = (one) => (one.m.failed || one.m.lately.refused ? 2 : 0) + (one.m.recent ? 1 : 0);
  const most = (list, room) => new Set([...list].sort((a, b) => urgent(b) - urgent(a)).slice(0, room));
  show($("no-edges"), !edges.length);
  show($("edges"), edges.length > 0);
  // A gateway is neither end: it stands between each caller and what is called.
  const drawn = edges.flatMap((one) => one.own ? [one] : [{ ...one, own: "to" }, { ...one, own: "from" }]);
  const nodes = merged(drawn), sides = ["to", "from"].map((side) => nodes.filter((one) => one.own === side));
  const inGraph = sides.flatMap((side) => { const best = most(side, DRAWN); return side.filter((one) => best.has(one)); });
  graph.draw($("graph"), own, inGraph);
  show($("graph-more"), inGraph.length < nodes.length);
  put($("graph-more"), `${nodes.length - inGraph.length} more are in the table only; those that fail or talk are drawn first.`);
  const inTable = most(edges, ROWS);
  sync($("edges").tBodies[0], edges, (one) => keyOf(one.edge), edgeRow, (tr, one) => {
    const { edge, m, from, to } = one;
    const [text, className] = PROTECTION[edge.security] || PROTECTION.unknown;
    tr.matters = inTable.has(one);
    cell(tr, 0, from.name, from.sub);
    cell(tr, 1, to.name, `${to.sub} · seen by the ${edge.reporter}`);
    cell(tr, 2, text, "", className);
    cell(tr, 3, rate(m.rate), m.what);
    cell(tr, 4, share(m.success), m.recent ? "" : m.all ? "since start" : "", m.failed ? "bad-text" : "");
    cell(tr, 5, millis(m.p50));
    cell(tr, 6, millis(m.p99));
    cell(tr, 7, count(m.refusedInAll), "", m.lately.refused ? "bad-text" : "");
    cell(tr, 8, count(m.total), [...edge.protocols].join(", "));
    cell(tr, 9, bytes(edge.bytes.received + edge.bytes.sent));
  });
  shortenEdges();
  more("edges-more", state.edges_left_out, "edges", "/edges");
  return edges;
};
// Those that matter now, or all; what is in them stays as it was drawn.
const shortenEdges = () => {
  const all = [...$("edges").tBodies[0].rows];
  for (const tr of all) show(tr, shownEdges.all || tr.matters);
  show($("all-edges"), all.length > ROWS);
  put($("all-edges"), shownEdges.all ? `Show ${ROWS}` : `Show all ${all.length}`);
  $("all-edges").setAttribute("aria-expanded", String(shownEdges.all));
};
const DRAWN = 12, ROWS = 12; // nodes on a side of the graph, and rows until somebody asks for all
const shownEdges = { all: false };
const ZERO = { total: 0, ok: 0, client_errors: 0, server_errors: 0, unanswered: 0, refused: 0, opened: 0 };
// One line for each neighbour: what goes through a gateway from one caller to several services is one caller.
const merged = (edges) => {
  const found = new Map();
  for (const edge of edges) {
    const node = edge.own === "to" ? edge.from : edge.to, key = JSON.stringify([edge.own, node]);
    const same = found.get(key);
    if (!same) { found.set(key, edge); continue; }
    const total = same.rate + edge.rate;
    const security = same.security === edge.security ? same.security : "mixed";
    found.set(key, { ...same, rate: total, bad: same.bad || edge.bad, security, short: `${rate(total)}/s`,
      words: `${rate(total)} per second, ${PROTECTION[security][0]}` });
  }
  return [...found.values()];
};
const more = (id, left, what, where) => {
  show($(id), left > 0);
  if (left > 0) put($(id), `${left} more ${what}: see ${where}`);
};

const HEALTH = { healthy: "state good", ejected: "state bad", gateway_down: "state bad", out_of_reach: "state warn", unidentified: "state warn" };
const endpointRow = row(["Service", "Endpoint", "Workload", "Cluster", "Weight", "Health"], [4]);
const showEndpoints = () => {
  const { services, gateways, services_left_out } = state.clusters;
  const rows = services.flatMap((service) => {
    const title = `${service.service}:${service.port}`;
    const rows = service.endpoints.map((endpoint) => ({ service, title, endpoint }));
    return rows.length ? rows : [{ service, title, endpoint: null }];
  });
  show($("no-services"), !rows.length);
  show($("endpoints"), rows.length > 0);
  sync($("endpoints").tBodies[0], rows, (one) => JSON.stringify([one.title, one.endpoint && [one.endpoint.address, one.endpoint.cluster, one.endpoint.identity]]), endpointRow, (tr, { service, title, endpoint }) => {
    const not = service.not_ready ? ` · ${service.not_ready} not ready` : "";
    cell(tr, 0, title, `${service.balancer.replaceAll("_", " ")}${not}`);
    if (!endpoint) {
      for (const index of [1, 2, 3, 4]) cell(tr, index, "–");
      return cell(tr, 5, "no endpoints", "", "state warn");
    }
    cell(tr, 1, endpoint.address, "", "mono");
    cell(tr, 2, endpoint.workload || "–", endpoint.identity === "plaintext" ? "plaintext" : account(endpoint.identity));
    cell(tr, 3, endpoint.cluster ? endpoint.cluster.split("/").pop() : "this one");
    cell(tr, 4, String(endpoint.weight), endpoint.priority ? `priority ${endpoint.priority}` : "");
    cell(tr, 5, endpoint.health.replaceAll("_", " "), endpoint.reason, HEALTH[endpoint.health] || "state soft");
  });
  more("services-more", services_left_out || 0, "services", "/clusters");
  show($("gateways"), gateways.length > 0);
  sync($("gateways").tBodies[0], gateways, (one) => JSON.stringify([one.cluster, one.host, one.port]), row(["Cluster", "Address", "State", "Since"], []), (tr, one) => {
    cell(tr, 0, one.cluster);
    cell(tr, 1, `${one.host}:${one.port}`, one.addresses.join(", "), "mono");
    cell(tr, 2, one.up === null ? "not known yet" : one.up ? "up" : "down", one.error, one.up === null ? "state soft" : one.up ? "state good" : "state bad");
    cell(tr, 3, one.since ? new Date(one.since).toLocaleString() : "–");
  });
};

const showCerts = () => {
  // In the last third of its life a renewal is late; of a root that is when the alerts say so (MeshgateTrustRootEnds), however long it lasts.
  const all = state.certs.certificate.seconds_in_all;
  const own = { ...state.certs.certificate, warn: all / 3, bad: all / 10, title: "This workload's certificate", sub: state.certs.certificate.id, id: `serial ${state.certs.certificate.serial}` };
  const roots = state.certs.roots.map((root) => ({ ...root, warn: 30 * 86400, bad: 3 * 86400, title: `Root of ${root.cluster || root.trust_domain}`,
    sub: [root.sha256 === own.root ? "vouches for this workload" : "", root.sessions.inbound + root.sessions.outbound ? "open connections rest on it" : "nothing open rests on it"].filter(Boolean).join(" · "), id: `SHA-256 ${root.sha256}` }));
  sync($("certs"), [own, ...roots], (one) => `${one.title}${one.id}`, (one) => {
    const made = make("li"), line = make("div", "row"), life = make("progress");
    line.append(make("b", "", one.title), make("span"));
    life.setAttribute("aria-label", `Remaining life: ${one.title}`);
    made.append(line, life, make("small"), make("small", "mono", one.id), make("small"));
    return made;
  }, (made, one) => {
    const life = made.children[1];
    put(made.firstChild.lastChild, one.seconds_left > 0 ? `${span(one.seconds_left)} left` : "ended");
    life.max = Math.max(1, one.seconds_in_all);
    life.value = one.seconds_left;
    life.className = one.seconds_left <= 0 || one.seconds_left < one.bad ? "bad" : one.seconds_left < one.warn ? "warn" : "";
    put(made.children[2], one.sub);
    put(made.lastChild, `valid ${one.not_before} to ${one.not_after}`);
  });
};

const showProblems = () => {
  put($("generation"), `generation ${state.process.generation} in force`);
  show($("no-problems"), !state.problems.length);
  sync($("problems"), state.problems, (one) => JSON.stringify(one), (one) => {
    const made = make("li"), head = make("div");
    head.append(make("span", `state ${one.severity === "error" ? "bad" : "warn"}`, one.severity), " ", make("span", "mono", one.line ? `${one.file}:${one.line}` : one.file));
    made.append(head, make("span", "", one.message), make("small", "", [one.object, one.field].filter(Boolean).join(" · ")));
    return made;
  }, () => {});
  const all = state.problems.length + state.problems_left_out, errors = state.problems.some((one) => one.severity === "error");
  show($("broken"), all > 0);
  put($("broken"), `${all} ${all === 1 ? "problem" : "problems"} in the configuration`);
  $("broken").className = `pill ${errors ? "bad" : "warn"}`;
  more("problems-more", state.problems_left_out, "problems", "/config_dump");
};

// ---- live

let source = null, paused = false, again = 0;
const live = (text, on) => { put($("live"), text); $("live").className = on ? "dot on" : "dot"; };
const render = () => {
  showHead();
  showTiles(showEdges());
  showRefusals();
  showEndpoints();
  showCerts();
  showProblems();
};
const follow = () => {
  clearTimeout(again);
  if (source || document.hidden) return;
  let first = true;
  source = new EventSource("/events");
  source.onmessage = (event) => {
    state = JSON.parse(event.data);
    if (first) history.length = 0; // no rate is worked out over a gap; until then the last picture can be drawn again
    first = false;
    history.push(state);
    if (history.length > WINDOW + 1) history.shift();
    live(paused ? "Paused" : "Live", !paused);
    if (!paused) render();
  };
  source.onerror = () => {
    leave();
    live(`Not connected${state ? `, all of this is of ${clock(state.at)}` : ""}: trying again`, false);
    $("live").className = "dot lost";
    again = setTimeout(follow, 3000);
  };
};
const leave = () => {
  clearTimeout(again);
  if (source) source.close();
  source = null;
};
// A page that nobody sees leaves its place to others.
document.addEventListener("visibilitychange", () => document.hidden ? leave() : follow());
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (source && source.readyState === EventSource.OPEN) live(paused ? "Paused" : "Live", !paused);
  if (!paused && state) render();
});
$("all-refusals").addEventListener("click", () => {
  shownRefusals.all = !shownRefusals.all;
  shorten();
});
$("all-edges").addEventListener("click", () => {
  shownEdges.all = !shownEdges.all;
  shortenEdges();
});
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width && state && !paused) { width = innerWidth; showEdges(); } });
follow();
