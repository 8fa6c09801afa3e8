// The last refusals: who, what, by which policy; and on demand what would be decided now.
const FIRST = 10; // refusals that are shown until somebody asks for all
const shownRefusals = { all: false };
const who = (refused) => is(refused.source_workload) ? `${refused.source_namespace}/${refused.source_workload}`
  : is(refused.source_principal) ? account(refused.source_principal) : "unknown caller";
const asked = (refused) => refused.path ? `${refused.method} ${refused.path}` : "a connection";
const why = (refused) => refused.policy ? `policy ${refused.policy}` : refused.reason || refused.details || refused.flags;
const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
// The same again is the same line, with another time and one more.
const lineOf = ({ number, at, since, times, ...what }) => JSON.stringify(what);
const newestSeen = { number: -1, first: true };

const showRefusals = () => {
  const all = state.refusals;
  show($("no-refusals"), !all.length);
  sync($("refusals"), all, lineOf, (one) => refusal(one, !newestSeen.first), repeat);
  const fresh = all.filter((one) => one.number > newestSeen.number);
  if (fresh.length && !newestSeen.first) {
    const [last] = fresh;
    put($("announce"), `${fresh.length > 1 ? `${fresh.length} refusals, the last: ` : "Refused: "}${who(last)}, ${asked(last)}, by ${why(last)}`);
  }
  if (all.length) newestSeen.number = Math.max(newestSeen.number, all[0].number);
  newestSeen.first = false;
  shorten();
};
// The first ones, and whatever somebody has opened or is at: that does not go from under their hands.
const shorten = () => {
  const all = [...$("refusals").children];
  all.forEach((item, index) => show(item, shownRefusals.all || index < FIRST || item.contains(document.activeElement)
    || item.firstChild.getAttribute("aria-expanded") === "true"));
  show($("all-refusals"), all.length > FIRST);
  put($("all-refusals"), shownRefusals.all ? `Show the last ${FIRST}` : `Show all ${all.length}`);
  $("all-refusals").setAttribute("aria-expanded", String(shownRefusals.all));
};
const refusal = (one, isNew) => {
  const item = make("li", isNew ? "new" : ""), button = make("button", "refusal"), panel = make("div", "explained");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  panel.id = `refusal-${one.number}`;
  button.setAttribute("aria-controls", panel.id);
  panel.hidden = true;
  const left = make("span", "who", who(one)), right = make("span", "why", why(one));
  left.append(make("small", "mono", asked(one)));
  right.append(make("small", "", [one.policy ? one.reason : "", is(one.destination_service) ? `at ${one.destination_service}` : ""].filter(Boolean).join(" · ")));
  const code = make("span", "code", one.code ? `${one.code} ${one.flags}` : one.flags);
  code.append(make("small"));
  button.append(make("time"), left, right, code);
  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden && !panel.firstChild) explain(one, panel);
  });
  item.append(button, panel);
  return item;
};
const repeat = (item, one) => {
  const [time, , , code] = item.firstChild.children;
  put(time, clock(one.at));
  time.dateTime = one.at;
  put(code.lastChild, one.times > 1 ? `${count(one.times)} times since ${clock(one.since)}` : "");
};
const explain = async (one, panel) => {
  const facts = [["Caller", one.source_principal], ["Asked for", asked(one)], ["Service", one.destination_service],
    ["Policy", one.policy], ["Reason", one.reason], ["Details", one.details]];
  const list = make("dl");
  for (const [name, value] of facts) if (is(value)) list.append(make("dt", "", name), make("dd", "", value));
  panel.append(list);
  if (one.reporter !== "destination" || !one.path) return;
  const text = make("pre", "", "asking …");
  panel.append(make("h3", "", "What would be decided now, as far as the refusal tells (without headers and tokens)"), text);
  // What is called is told by its path alone: where on this workload it arrived is not kept.
  const body = { method: one.method, path: one.path };
  if (is(one.source_principal)) body.peer = one.source_principal;
  try {
    const answer = await fetch("/explain", { method: "POST", headers: { accept: "text/plain" }, body: JSON.stringify(body) });
    const said = await answer.text();
    put(text, answer.ok ? said.trim() : `It cannot be explained: ${said.trim()}`);
  } catch {
    put(text, "This proxy does not answer.");
  }
};
