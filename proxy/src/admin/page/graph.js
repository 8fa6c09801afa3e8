"use strict";
// The picture of who talks to whom: callers, this workload, what it calls. Drawn anew for each state: it is small, and nothing in it
// takes the focus; all of it is in the table below it as well. What comes from the wire is only ever text.
const graph = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const BOX = { height: 46, gap: 26 };

  const el = (name, attributes, ...children) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  // So many characters fit; the whole is in the title.
  const fit = (text, width, each) => {
    const most = Math.max(4, Math.floor(width / each));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  };

  const box = (node, place, own) => {
    const inner = place.width - 20;
    return el("g", { class: own ? "node own" : "node", transform: `translate(${place.x} ${place.y})` },
      el("title", {}, `${node.name} ${node.sub}`),
      el("rect", { class: "box", width: place.width, height: BOX.height, rx: 8 }),
      el("text", { class: "name", x: 12, y: 19 }, fit(node.name, inner, 7.4)),
      el("text", { class: "sub", x: 12, y: 36 }, fit(node.sub, inner, 6.1)));
  };

  const classes = (edge) => ["edge", { mutual_tls: "secure", plaintext: "plaintext", mixed: "plaintext" }[edge.security] || "unknown",
    edge.bad ? "failing" : "", edge.rate > 0 ? "" : "quiet"].filter(Boolean).join(" ");
  const width = (rate) => Math.min(7, 1.8 + Math.log10(1 + rate) * 2);

  const label = (edge, x, y) => {
    const text = edge.short, wide = text.length * 6.5 + 34;
    const open = edge.security !== "mutual_tls";
    const lock = el("g", { class: open ? "lock open" : "lock", transform: `translate(${-wide / 2 + 9} -6)` },
      el("rect", { class: open ? "lock open" : "lock", x: 0, y: 5, width: 9, height: 7, rx: 1.5 }),
      el("path", { class: open ? "lock open" : "lock", d: open ? "M2 5V3a2.5 2.5 0 0 1 5-.6" : "M2 5V3a2.5 2.5 0 0 1 5 0v2" }));
    return el("g", { class: "label", transform: `translate(${x} ${y})` },
      el("title", {}, `${edge.from.name} to ${edge.to.name}: ${edge.words}`),
      el("rect", { x: -wide / 2, y: -11, width: wide, height: 22, rx: 11 }),
      edge.security === "unknown" ? el("g", {}) : lock,
      el("text", { x: 8, y: 4 }, text));
  };

  // Callers left, this workload in the middle, what is called right; without one of the sides the middle moves there.
  const wide = (sides, total) => {
    const most = Math.max(sides.callers.length, sides.called.length, 1);
    const height = most * (BOX.height + BOX.gap) - BOX.gap + 8;
    const columns = 1 + (sides.callers.length ? 1 : 0) + (sides.called.length ? 1 : 0);
    const each = Math.min(230, (total - 20) / (columns + (columns - 1) * 0.75));
    const step = columns > 1 ? (total - each - 4) / (columns - 1) : 0;
    const at = (column, count, index) => ({
      x: 2 + column * step, width: each,
      y: 4 + (height - 8 - (count * (BOX.height + BOX.gap) - BOX.gap)) / 2 + index * (BOX.height + BOX.gap),
    });
    const middle = sides.callers.length ? 1 : 0;
    const own = at(middle, 1, 0);
    const parts = { edges: [], labels: [], boxes: sides.own ? [box(sides.own, own, true)] : [] };
    const draw = (list, column, inward) => list.forEach(({ node, edge }, index) => {
      const place = at(column, list.length, index), y = place.y + BOX.height / 2;
      const outer = inward ? place.x + each : place.x, inner = inward ? own.x : own.x + each;
      const bend = (inner - outer) / 2;
      // Lines meet the middle side by side, and not in one point.
      const spread = Math.min(9, 34 / list.length) * (index - (list.length - 1) / 2), ownY = own.y + BOX.height / 2 + spread;
      const [x1, y1, x2, y2] = [outer, y, inner, ownY];
      parts.edges.push(el("path", { class: classes(edge), "stroke-width": width(edge.rate),
        d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }), arrow(edge, inward ? x2 : x1, inward ? y2 : y1));
      const t = 0.4, u = 1 - t; // nearer to the outer end, where lines are apart
      parts.labels.push(label(edge, u ** 3 * x1 + 3 * u * u * t * (x1 + bend) + 3 * u * t * t * (x2 - bend) + t ** 3 * x2,
        u ** 3 * y1 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t ** 3 * y2));
      parts.boxes.push(box(node, place, false));
    });
    draw(sides.callers, 0, true);
    draw(sides.called, middle + 1, false);
    return { parts, width: total, height };
  };

  const arrow = (edge, x, y) => el("path", { class: classes(edge), "stroke-width": 2, "stroke-dasharray": "none",
    d: `M${x - 9} ${y - 5}L${x - 2} ${y}L${x - 9} ${y + 5}` });

  // On a phone: one above the other, lines in a gutter at the left.
  const narrow = (sides, total) => {
    const rows = [...sides.callers.map((one) => ({ ...one, inward: true })), { own: true },
      ...sides.called.map((one) => ({ ...one, inward: false }))];
    const left = 34, row = BOX.height + 38;
    const parts = { edges: [], labels: [], boxes: [] };
    const middle = sides.callers.length * row + BOX.height / 2 + 4;
    rows.forEach(({ node, edge, own, inward }, index) => {
      const y = index * row + 4;
      if (own) {
        if (sides.own) parts.boxes.push(box(sides.own, { x: 2, y, width: total - 4 }, true));
        return;
      }
      parts.boxes.push(box(node, { x: left, y, width: total - left - 2 }, false));
      const from = y + BOX.height / 2, edgeOfOwn = inward ? middle - BOX.height / 2 : middle + BOX.height / 2;
      parts.edges.push(el("path", { class: classes(edge), "stroke-width": Math.min(4, width(edge.rate)),
        d: `M${left} ${from}H${22}Q14 ${from} 14 ${inward ? from + 8 : from - 8}V${edgeOfOwn}` }));
      parts.labels.push(label(edge, left + (total - left) / 2, y + BOX.height + 15));
    });
    return { parts, width: total, height: rows.length * row - 10 };
  };

  // `edges`: {from, to, own: "to" | "from" | "", rate, bad, security, short, words}; nodes: {name, sub}
  const draw = (target, own, edges) => {
    const callers = edges.filter((edge) => edge.own === "to").map((edge) => ({ node: edge.from, edge }));
    const called = edges.filter((edge) => edge.own === "from").map((edge) => ({ node: edge.to, edge }));
    if (!callers.length && !called.length) return target.replaceChildren();
    const total = Math.max(280, target.clientWidth);
    const { parts, width: w, height: h } = (total < 640 ? narrow : wide)({ own, callers, called }, total);
    const told = edges.map((edge) => `${edge.from.name} to ${edge.to.name}: ${edge.words}`).join("; ");
    target.replaceChildren(el("svg", { viewBox: `0 0 ${w} ${h}`, width: w, height: h, role: "img", "aria-label": `Graph. ${told}` },
      ...parts.edges, ...parts.boxes, ...parts.labels));
  };
  return { draw };
})();
