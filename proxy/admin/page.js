// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The page of tproxy-relay --admin. It reads state.json every two seconds while it is visible, and
 * shows it. Text comes from programs and rules: it is only ever set as textContent.
 */
"use strict";

const INTERVAL = 2000;
/* The relay answers within 5 seconds, or gives the request up. */
const PATIENCE = 5000;
const SVG = "http://www.w3.org/2000/svg";

/* Words for the counters of the kernel half, see STATUS in tproxy-load(8). */
const REASONS = {
	no_relay: "no relay in the network namespace",
	no_listener: "the relay's port has no listener of its own",
	stalled: "the relay is stopped or hung",
	map_full: "map_socks is full",
	bound_device: "socket bound to a device",
	link_local: "IPv6 link-local destination",
	negative_cache: "the destination failed a moment before",
	no_storage: "no memory for the record",
	over_share: "the user or cgroup has used up its share",
	strayed: "the SYN would have left the host",
	unsupported: "a socket option that no relay can keep",
	rule_refused: "refused by a rule",
	rule_udp: "UDP datagrams refused by a rule",
	aborted: "redirected, then stopped before its SYN",
	publish_failed: "redirected, then not recorded",
	unanswered: "the SYN to the relay was not answered",
};
const WELL = new Set(["closed"]);

const byId = (id) => document.getElementById(id);
let previous = new Map(); /* rates of connections: id -> {up, down, at} */
let order = "rate";
let state = null;
let answered = null;

/* --- small parts */

function make(tag, options, ...children) {
	const node = document.createElement(tag);

	for (const [name, value] of Object.entries(options || {})) {
		if (name === "class")
			node.className = value;
		else
			node.setAttribute(name, value);
	}
	node.append(...children.filter((child) => child !== null && child !== undefined));
	return node;
}

function withUnit(value, units, step) {
	let i = 0;

	while (value >= step && i < units.length - 1) {
		value /= step;
		i++;
	}
	return (i === 0 ? Math.round(value) : value.toFixed(value < 10 ? 1 : 0)) + " " + units[i];
}

const bytes = (n) => withUnit(n, ["B", "kB", "MB", "GB", "TB"], 1000);
const count = (n) => n.toLocaleString("en-US");
const rate = (n) => (n < 10 && n % 1 ? n.toFixed(1) : count(Math.round(n)));

function time(ms) {
	const s = ms / 1000;

	if (s < 1)
		return Math.round(ms) + " ms";
	if (s < 60)
		return s.toFixed(s < 10 ? 1 : 0) + " s";
	if (s < 3600)
		return Math.floor(s / 60) + " min";
	if (s < 172800)
		return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
	return Math.floor(s / 86400) + " d";
}

/* A program may choose an empty name. */
const visible = (name) => (name.trim() === "" ? "(no name)" : name);

const sum = (list) => list.reduce((a, b) => a + b, 0);
/* The mean of the last samples: one second alone flickers. */
const recent = (list) => (list.length ? sum(list.slice(-3)) / Math.min(3, list.length) : 0);

/* --- tiles and plots */

function tile(name, value, more, style) {
	return make("div", {}, make("dt", {}, name),
		make("dd", style ? { class: style } : {}, value, more ? make("small", {}, more) : null));
}

function showTiles(s) {
	const h = s.history;
	const now = sum(s.relay.workers.map((worker) => worker.sessions + worker.bulk));
	const observed = s.observed || 0;
	const fresh = recent(h.redirected) + recent(h.direct) + recent(h.refused);
	const refused = sum(h.refused), failed = sum(h.failed);

	byId("tiles").replaceChildren(
		tile("Connections now", count(now), observed ? "+ " + count(observed) + " observed" : ""),
		tile("New", rate(fresh), "/s"),
		tile("Up", bytes(recent(h.up)), "/s"),
		tile("Down", bytes(recent(h.down)), "/s"),
		tile("Refused", count(refused), "in 2 min", refused ? "refused" : ""),
		tile("Failed", count(failed), "in 2 min", failed ? "failed" : ""));
}

function svg(tag, attributes) {
	const node = document.createElementNS(SVG, tag);

	for (const [name, value] of Object.entries(attributes))
		node.setAttribute(name, value);
	return node;
}

/* A round number that is not below the highest value. */
function ceiling(value, step) {
	let top = 1;

	while (top * step <= value)
		top *= step;
	for (const factor of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]) {
		if (top * factor >= value)
			return top * factor;
	}
	return value;
}

class Plot {
	constructor(title, series, format, step) {
		this.series = series;
		this.format = format;
		this.step = step;
		this.top = make("span");
		this.keys = series.map(() => make("span"));
		this.lines = series.map((name) => svg("polyline", { class: name }));
		this.at = svg("line", { class: "at", y1: 0, y2: 100 });
		this.svg = svg("svg", { viewBox: "0 0 119 100", preserveAspectRatio: "none",
					role: "img", "aria-label": title });
		this.svg.append(svg("line", { x1: 0, x2: 119, y1: 0.5, y2: 0.5 }),
			svg("line", { x1: 0, x2: 119, y1: 50, y2: 50 }), this.at, ...this.lines);
		this.figure = make("figure", {},
			make("figcaption", {}, make("b", {}, title, this.top),
				...series.map((name, i) => make("span", { class: "key " + name },
					make("span", {}, name + " ", this.keys[i])))),
			this.svg);
		this.over = null;
		this.svg.addEventListener("pointermove", (event) => {
			const box = this.svg.getBoundingClientRect();

			this.over = Math.round(119 * (event.clientX - box.left) / box.width);
			this.draw();
		});
		this.svg.addEventListener("pointerleave", () => {
			this.over = null;
			this.draw();
		});
	}

	show(history) {
		this.data = this.series.map((name) => history[name]);
		this.draw();
	}

	draw() {
		const n = this.data[0].length, first = 120 - n;
		const top = ceiling(Math.max(1, ...this.data.flat()), this.step);
		const at = this.over !== null && this.over >= first && this.over < 120 ? this.over : null;

		this.lines.forEach((line, i) => {
			line.setAttribute("points", this.data[i].map((value, x) =>
				(first + x) + "," + (100 - 97 * value / top).toFixed(1)).join(" "));
			this.keys[i].textContent = this.format(
				at === null ? recent(this.data[i]) : this.data[i][at - first]) + "/s";
		});
		this.at.style.display = at === null ? "none" : "";
		this.at.setAttribute("x1", at || 0);
		this.at.setAttribute("x2", at || 0);
		this.top.textContent = at === null ? "2 min, top " + this.format(top) + "/s"
			: (119 - at) + " s ago";
	}
}

const plots = [
	new Plot("New connections", ["redirected", "direct", "refused"], rate, 10),
	new Plot("Bytes of the relay", ["up", "down"], bytes, 1000),
	new Plot("Destinations that failed", ["failed"], rate, 10),
];
byId("plots").append(...plots.map((plot) => plot.figure));

/* --- tables */

function fill(id, head, rows, empty) {
	const table = byId(id);

	table.replaceChildren();
	if (!rows.length) {
		table.append(make("tbody", {}, make("tr", {}, make("td", { class: "quiet" }, empty))));
		return;
	}
	if (head)
		table.append(make("thead", {}, make("tr", {}, ...head)));
	table.append(make("tbody", {}, ...rows));
}

const heading = (text, style) => make("th", { scope: "col", class: style || "" }, text);
const number = (text, label) =>
	make("td", { class: "number", ...(label ? { "data-label": label } : {}) }, text);

function named(value, most, ...children) {
	const cell = make("td", { class: "name bar" }, ...children);

	cell.style.setProperty("--part", most ? (100 * value / most).toFixed(1) + "%" : "0%");
	return cell;
}

/* Sets the rate of each connection: bytes each way since the state before. */
function addRates(list) {
	const now = performance.now(), next = new Map();

	for (const c of list) {
		const before = previous.get(c.id);
		const total = (c.up || 0) + (c.down || 0);

		c.rate = before && now > before.at ? Math.max(0, 1000 * (total - before.total) /
			(now - before.at)) : 0;
		next.set(c.id, { total, at: now });
	}
	previous = next;
}

/* key, heading, order, style, and whether it is known only from the kernel's list */
const COLUMNS = [
	["program", "Program", (a, b) => a.command.localeCompare(b.command)],
	["destination", "Destination", (a, b) => a.destination.localeCompare(b.destination)],
	["verdict", "Verdict, rule", (a, b) => a.verdict.localeCompare(b.verdict)],
	["up", "Up", (a, b) => (b.up || 0) - (a.up || 0), "number", true],
	["down", "Down", (a, b) => (b.down || 0) - (a.down || 0), "number", true],
	["rate", "Rate", (a, b) => b.rate - a.rate || (b.up + b.down || 0) - (a.up + a.down || 0),
		"number", true],
	["rtt", "RTT", (a, b) => (b.rtt_us || 0) - (a.rtt_us || 0), "number", true],
	["age", "Age", (a, b) => b.age_ms - a.age_ms, "number"],
];

function columnHeading([key, text, , style]) {
	const button = make("button", { type: "button" }, text);
	const cell = make("th", { scope: "col", class: style || "",
				  ...(key === order ? { "aria-sort": "descending" } : {}) }, button);

	button.addEventListener("click", () => {
		order = key;
		showConnections(state);
	});
	return cell;
}

/* Connections of other network namespaces come from the maps, and have no numbers. */
function connectionRow(c, hasNumbers = true) {
	const known = c.up !== undefined;
	const rtt = c.rtt_us ? (c.rtt_us / 1000).toFixed(c.rtt_us < 10000 ? 2 : 0) + " ms" : "–";

	return make("tr", { title: "id " + c.id + (c.source ? ", from " + c.source : "") },
		make("td", { class: "name" }, make("b", {}, visible(c.command)), " ",
			make("small", {}, "pid " + c.pid + ", uid " + c.uid +
				(c.cgroup ? ", " + c.cgroup : ""))),
		make("td", { class: "name" }, c.destination),
		make("td", {}, make("span", { class: c.verdict }, c.verdict), " ",
			make("small", {}, c.rule || "")),
		...(hasNumbers ? [number(known ? bytes(c.up) : "–", "up"),
				  number(known ? bytes(c.down) : "–", "down"),
				  number(known ? bytes(c.rate) + "/s" : "–", "rate"),
				  number(rtt, "rtt")] : []),
		number(time(c.age_ms), "age"));
}

function showConnections(s) {
	const list = s.connections || [];
	const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
	const found = list.filter((c) => {
		const text = [c.command, c.pid, c.destination, c.source, c.verdict, c.rule, c.cgroup,
			      c.id].join(" ").toLowerCase();
		return words.every((word) => text.includes(word));
	});
	const [, , compare] = COLUMNS.find(([key]) => key === order);

	found.sort(compare);
	byId("shown").textContent = [
		words.length ? count(found.length) + " match" : "",
		s.read > list.length || s.more
			? "the " + count(list.length) + " with the most bytes of " +
			  (s.more ? "more than " : "") + count(s.read) : count(list.length),
		s.live_bytes === false ? "from the maps, which have no bytes" : "",
	].filter(Boolean).join(", ");
	const columns = COLUMNS.filter(([, , , , live]) => !live || s.live_bytes);

	fill("connections", columns.map(columnHeading), found.map((c) => connectionRow(c, s.live_bytes)),
		s.connections ? (words.length ? "none matches" : "none") : "cannot be read");
}

function showSums(id, list) {
	const most = Math.max(0, ...list.map((row) => row.up + row.down));
	const mostN = Math.max(0, ...list.map((row) => row.connections));

	fill(id, [heading(""), heading("Connections", "number"),
		  ...(most ? [heading("Up", "number"), heading("Down", "number")] : [])],
		list.map((row) => make("tr", {},
			named(most ? row.up + row.down : row.connections, most || mostN, visible(row.name)),
			number(count(row.connections)),
			...(most ? [number(bytes(row.up)), number(bytes(row.down))] : []))), "none");
}

function showReasons(s) {
	const rows = [];
	const counters = s.kernel ? s.kernel.counters : {};

	for (const [name, text] of Object.entries(REASONS)) {
		if (counters[name])
			rows.push([text, name, counters[name], "refused"]);
	}
	for (const [name, n] of Object.entries(s.ends)) {
		if (!WELL.has(name))
			rows.push([name, "", n, "failed"]);
	}
	for (const [name, n] of Object.entries(s.honest_connects)) {
		if (name.startsWith("accepted first"))
			rows.push(["honest connect: " + name, "", n, "redirected"]);
	}
	rows.sort((a, b) => b[2] - a[2]);

	const most = Math.max(0, ...rows.map((row) => row[2]));

	if (counters.refused)
		rows.unshift(["refused by --fail-closed, for one of the reasons below", "refused",
			      counters.refused]);
	fill("reasons", null, rows.map(([text, name, n]) => make("tr", {},
		named(Math.min(n, most), most, text + " ", name ? make("code", {}, name) : null),
		number(count(n)))), "none");
}

const ACTIONS = { redirect: "redirected", direct: "direct", observe: "observed", refuse: "refused" };

function showRules(s) {
	const rules = s.kernel ? s.kernel.rules : [];
	const most = Math.max(0, ...rules.map((rule) => rule.hits));

	fill("rules", [heading("Rule"), heading("Hits", "number"), heading("Last", "number")],
		rules.map((rule) => make("tr", {},
			named(rule.hits, most, make("b", { class: ACTIONS[rule.action] || "" }, rule.name),
				" ", make("code", {}, rule.text.replace(" name " + rule.name, ""))),
			number(count(rule.hits)),
			number(rule.last_hit_ms_ago === undefined ? "never"
				: time(rule.last_hit_ms_ago) + " ago"))),
		"no rules are loaded: every connection in scope is redirected");
}

/* --- upstreams */

function stateOf(upstream) {
	if (upstream.why && upstream.state !== "up")
		return upstream.state + ": " + upstream.why;
	return upstream.state || "up";
}

function showUpstreams(s) {
	const chained = s.upstreams.filter((u) => u.name !== "direct");
	const COLORS = { up: "redirected", down: "refused", trying: "refused" };

	document.getElementById("chain").hidden = chained.length === 0;
	fill("upstreams", [heading("Upstream"), heading("Type"), heading("State"), heading("Dial time", "number"),
			   heading("Failed", "number"), heading("Now", "number")],
		chained.map((u) => make("tr", {},
			make("td", {}, make("b", {}, u.name), u.default ? " (default)" : ""),
			make("td", {}, u.type),
			make("td", { class: COLORS[u.state] || "" }, stateOf(u),
				u.since_ms === undefined ? "" : ", " + time(u.since_ms)),
			number(u.dial_us ? (u.dial_us / 1000).toFixed(1) + " ms" : ""),
			number(u.dials === undefined ? "" : count(u.failed) + " of " + count(u.dials)),
			number(u.connections === undefined ? "" : count(u.connections)))),
		"none");
}

/* --- health */

function checks(s) {
	const list = [];
	const add = (level, text) => list.push([level, text]);
	const check = (well, good, bad, level) => add(well ? "good" : level || "bad", well ? good : bad);
	const used = sum(s.relay.workers.map((w) => w.sessions + w.bulk)) / s.relay.sessions_limit;
	const k = s.kernel, c = k ? k.counters : {};
	const lost = (c.observe_full || 0) + (c.events_lost || 0);

	check(k, k ? "the programs were loaded " + time(k.loaded_ms_ago) + " ago" : "",
		"the pinned maps cannot be read: nothing is loaded, or there is no permission");
	check(s.relay.registered, "the relay is registered: new connections come to it",
		"the relay is not registered: new connections do not come to it");
	check(!s.relay.stuck, "all " + s.relay.workers.length + " workers answer",
		"a worker does not answer: no new connections come");
	check(used < 0.9, (100 * used).toFixed(used < 0.1 ? 1 : 0) + " % of the limit of " +
		count(s.relay.sessions_limit) + " connections", "the limit of connections is near", "warn");
	check(!s.totals.accept_pauses, "accepting was never paused",
		"accepting was paused " + count(s.totals.accept_pauses) + " times", "warn");
	check(!lost, "no end of an observed connection was lost",
		count(lost) + " ends of observed connections were lost", "warn");
	check(!s.relay.lines_dropped, "no line of the log was dropped",
		count(s.relay.lines_dropped) + " lines of the log were dropped", "warn");
	if (k)
		add("good", k.fail_closed ? "without a relay, connections are refused (--fail-closed)"
			: "without a relay, connections go directly");
	add("good", "memory " + bytes(s.relay.resident_bytes));
	return list;
}

function showHealth(s) {
	const list = checks(s);
	const bad = list.filter(([level]) => level === "bad").length;
	const warn = list.filter(([level]) => level === "warn").length;
	const signs = { good: "✓", warn: "!", bad: "✗" };

	byId("checks").replaceChildren(...list.map(([level, text]) =>
		make("li", {}, make("span", { class: level }, signs[level]), text)));
	byId("badge").textContent = bad || warn ? (bad + warn) + (bad + warn > 1 ? " problems"
		: " problem") : "all well";
	byId("badge").className = "badge " + (bad ? "bad" : warn ? "warn" : "good");
	byId("about").textContent = "version " + s.relay.version + ", pid " + s.relay.pid + ", up " +
		time(1000 * s.relay.uptime_s);
}

/* --- the loop */

function show(s) {
	state = s;
	addRates(s.connections || []);
	showTiles(s);
	plots.forEach((plot) => plot.show(s.history));
	showConnections(s);
	showSums("programs", s.programs || []);
	showSums("destinations", s.destinations || []);
	showReasons(s);
	showRules(s);
	showUpstreams(s);
	showHealth(s);
	document.body.dataset.shown = "yes";
}

function offline(why) {
	byId("offline").textContent = "No answer from the relay" +
		(answered ? " since " + answered.toLocaleTimeString() : "") + ": " + why;
	byId("offline").hidden = false;
	byId("badge").textContent = "no answer";
	byId("badge").className = "badge bad";
	/* What it shows was true then. */
	document.body.classList.add("stale");
}

async function update() {
	try {
		const response = await fetch("state.json", { cache: "no-store",
							     signal: AbortSignal.timeout(PATIENCE) });

		if (!response.ok)
			throw new Error("status " + response.status);
		show(await response.json());
		answered = new Date();
		byId("offline").hidden = true;
		document.body.classList.remove("stale");
	} catch (error) {
		offline(error.message);
	}
}

async function loop() {
	if (!document.hidden)
		await update();
	setTimeout(loop, INTERVAL);
}

byId("filter").addEventListener("input", () => state && showConnections(state));
document.addEventListener("visibilitychange", () => document.hidden || update());
loop();
