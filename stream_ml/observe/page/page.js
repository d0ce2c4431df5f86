"use strict";
// One status a second comes over server-sent events; what charts show comes from /v1/history first. Text only ever
// enters as text: nothing of an event is read as HTML.

const byId = (id) => document.getElementById(id);
const KEPT = 900; // points, as the worker keeps them
const points = [];
const charts = [];

function write(id, text) { byId(id).textContent = text; }

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function replace(parent, children) { parent.replaceChildren(...children); }

function count(number) {
  return number === null || number === undefined ? "-" : Math.round(number).toLocaleString("en");
}

function seconds(number) { // with no-break spaces
  if (number === null || number === undefined) return "-";
  if (number < 1) return `${Math.round(number * 1000)}\u00a0ms`;
  if (number < 120) return `${number.toFixed(1)}\u00a0s`;
  return number < 7200 ? `${Math.round(number / 60)}\u00a0min` : `${(number / 3600).toFixed(1)}\u00a0h`;
}

const shown = {};

function changed(name, value) { // so that what stands there, and a selection in it, is left alone while it is the same
  const text = JSON.stringify(value);
  if (shown[name] === text) return false;
  shown[name] = text;
  return true;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// --- charts ---

const DRAWN = [
  ["chart-rate", ["events", "labels"], ["events/s", "labels/s"], count],
  ["chart-lag", ["lag_seconds", "learning_lag_seconds"], ["scoring", "learning"], seconds],
  ["chart-latency", ["p50", "p99"], ["half within", "99 of 100 within"], seconds],
  ["chart-quality", ["quality", "baseline"], ["served", "knowing only the labels"], (n) => n === null ? "-" : n.toFixed(3)],
];

function drawn([id, , names, text]) {
  const place = byId(id);
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const series = names.map((label, number) => ({
    label, stroke: color(number ? "--two" : "--one"), width: number ? 1.5 : 3, points: { show: false }, dash: number ? [6, 4] : [], spanGaps: true,
    value: (_, value) => text(value),
  }));
  const options = {
    width: Math.max(200, place.clientWidth), height: 180, series: [{}, ...series], cursor: { drag: { x: false, y: false } },
    legend: { live: false },
    axes: [{ ...axis, space: 80, size: 26, values: (_, all) => all.map((at) => clock.format(at * 1000)) },
      { ...axis, size: 62, space: 25, values: (_, all) => all.map((value) => text(value)) }],
    scales: { y: { range: (_, low, high) => id === "chart-quality" ? [low - 0.02, high + 0.02] : [0, Math.max(high * 1.1, 0.001)] } },
  };
  place.replaceChildren();
  place.setAttribute("role", "img");
  return new uPlot(options, data(DRAWN.find((one) => one[0] === id)), place);
}

function data([, keys]) {
  return [points.map((point) => point.at), ...keys.map((key) => points.map((point) => point[key] ?? null))];
}

function drawAll() {
  charts.splice(0).forEach((chart) => chart.destroy());
  DRAWN.forEach((one) => charts.push(drawn(one)));
}

function update(point) {
  if (points.length && points[points.length - 1].at >= point.at) return;
  points.push(point);
  if (points.length > KEPT) points.shift();
  DRAWN.forEach((one, number) => {
    charts[number].setData(data(one));
    const last = one[1].map((key, place) => `${one[2][place]} ${one[3](point[key] ?? null)}`).join(", ");
    byId(one[0]).setAttribute("aria-label", `over the last ${seconds(points.length)}; now ${last}`);
  });
}

// --- one status ---

function show(status) {
  write("app", status.app);
  write("instance", status.instance);
  const told = wrong(status.problems).length;
  document.title = `${told ? `(${told}) ` : ""}${status.app} - stream_ml`;
  const still = status.loop_silent_seconds > QUIET_MS / 1000 ? `, stands still for ${Math.round(status.loop_silent_seconds)}\u00a0s` : "";
  state(`${status.ready ? "ready" : "not ready"}${still}`, status.ready && !still ? "good" : "warning");
  problems(status);
  if (!status.model) return;
  const point = status.point;
  write("rate", count(point.events));
  write("label-rate", count(point.labels));
  write("lag", seconds(point.lag_seconds));
  write("learning-lag", seconds(point.learning_lag_seconds));
  write("p50", seconds(point.p50));
  write("p99", seconds(point.p99));
  quality(status, point);
  scores(status.scores);
  drift(status.drift);
  signals(status.signals);
  last(status.last_predictions);
  health(status);
  update(point);
}

function state(text, className) {
  if (!changed("state", [text, className])) return;
  write("state", text);
  byId("state").className = `pill ${className}`;
}

// A note, as of a model that is cold, stands among the words and is nothing wrong.
const wrong = (found) => found.filter((one) => one.severity !== "info");

const WORDS = { critical: "Critical", warning: "Warning", info: "Note" };

function problems(status) {
  const found = status.problems;
  if (!changed("problems", found)) return;
  const worst = found.some((one) => one.severity === "critical") ? "critical" : wrong(found).length ? "warning" : "good";
  byId("words").className = worst;
  write("words-title", wrong(found).length ? "What is wrong" : "Nothing is wrong");
  const items = found.map((one) => {
    const item = element("li");
    item.append(element("b", `${WORDS[one.severity]}: `), one.text);
    if (one.suggestion) item.append(/[.?!]$/.test(one.text) ? " Type " : ". Type ", element("code", one.suggestion));
    return item;
  });
  replace(byId("problems"), items.length ? items : [element("li", "There is nothing to do.")]);
}

function quality(status, point) {
  const window = (status.quality_windows.last || {});
  if (point.quality !== null && point.quality !== undefined) {
    write("quality", `${point.metric} ${point.quality.toFixed(3)} over the last ${count(window.examples)} labels; knowing only the labels ${point.baseline.toFixed(3)}`);
  }
  const delay = window.delay_seconds || {};
  const share = status.maturity.labelled_share;
  if (share !== undefined) {
    write("maturity", `${Math.floor(share * 100)} % of the last ${count(status.maturity.events)} events have their label by now` +
      (delay.p50 === undefined ? "." : `; half of the labels come within ${seconds(delay.p50)}, 99 of 100 within ${seconds(delay.p99)}.`));
  }
}

function scores(counts) {
  byId("scores").closest(".card").hidden = !counts.length; // a regression has none
  const most = Math.max(1, ...counts);
  const total = counts.reduce((sum, one) => sum + one, 0);
  const bars = counts.map((one, number) => {
    const bar = element("span");
    bar.style.height = `${(100 * one) / most}%`;
    bar.title = `${(number / 10).toFixed(1)} to ${((number + 1) / 10).toFixed(1)}: ${one}`;
    return bar;
  });
  replace(byId("scores"), bars);
  const top = counts.indexOf(Math.max(...counts));
  const words = total ? `${count(total)} scores, most between ${top / 10} and ${(top + 1) / 10}` : "no scores in the last minute";
  byId("scores").setAttribute("aria-label", words);
  write("score-words", words);
}

const SVG = "http://www.w3.org/2000/svg";

function spark(history, threshold) {
  const made = document.createElementNS(SVG, "svg");
  const high = Math.max(threshold * 1.2, ...history);
  const y = (value) => (28 - (26 * value) / high).toFixed(1);
  made.setAttribute("class", "spark");
  made.setAttribute("viewBox", "0 0 120 30");
  made.setAttribute("aria-hidden", "true");
  const limit = document.createElementNS(SVG, "line");
  Object.entries({ x1: 0, x2: 120, y1: y(threshold), y2: y(threshold) }).forEach(([name, value]) => limit.setAttribute(name, value));
  const path = document.createElementNS(SVG, "path");
  const step = 120 / Math.max(1, history.length - 1);
  path.setAttribute("d", history.map((value, number) => `${number ? "L" : "M"}${(number * step).toFixed(1)} ${y(value)}`).join(""));
  made.append(limit, path);
  return made;
}

function drift(found) {
  const wait = `${count(found.seen)} of ${count(found.of)} events`;
  write("drift-note", !found.on ? "Switched off: drift.inputs.reference is 0." : found.referenced
    ? `Against the first events of this worker; the next window has ${wait}. Beyond the dashed line (${found.threshold}) twice in a row is drift.`
    : `The reference is being made: ${wait}.`);
  if (!changed("drift", found.subjects)) return;
  const rows = Object.entries(found.subjects).sort((one, other) => other[1].drifted - one[1].drifted || other[1].psi - one[1].psi).map(([name, of]) => {
    const row = element("tr");
    const cell = element("td");
    cell.append(spark(of.history, found.threshold));
    row.append(element("td", name.replace("feature:", "")), element("td", of.psi.toFixed(2), "number"), cell,
      element("td", of.drifted ? "▲ drifted" : "as before", of.drifted ? "warning" : ""));
    return row;
  });
  replace(byId("drift").tBodies[0], rows);
}

function signals(found) {
  if (!changed("signals", found)) return;
  const items = [...found].reverse().map((one) => {
    const item = element("li");
    const since = new Date(one.since_ms).toISOString().slice(0, 16).replace("T", " ");
    item.append(element("b", one.kind.replace("_", " "), one.severity === "info" ? "" : one.severity), ` ${one.message} `);
    item.append(element("small", `since ${since} UTC. Type `), element("code", one.suggestion));
    return item;
  });
  replace(byId("signals"), items.length ? items : [element("li", "none yet")]);
}

function last(found) {
  if (!changed("last", found)) return;
  const rows = [...found].reverse().map((one) => {
    const row = element("tr");
    const name = element("td", one.event_id, "id");
    name.title = one.event_id;
    const said = typeof one.said === "number" ? Number(one.said.toPrecision(6)) : one.said;
    row.append(name, element("td", said === null ? "nothing: cold" : String(said), "number"),
      element("td", one.score === null ? "-" : one.score.toFixed(4), "number"),
      element("td", one.partition, "number more"), element("td", one.offset, "number more"));
    return row;
  });
  replace(byId("last").tBodies[0], rows);
}

function pairs(id, found) {
  replace(byId(id), found.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function health(status) {
  const { model, models, checkpoint, pending, partitions } = status;
  pairs("models", models.lines
    .filter((one) => ["serves", "standby"].includes(one.role) || one.lineage === models.answers)
    .map((one) => [one.name || one.lineage.slice(0, 8), one.told]));
  pairs("model", [
    ["version", `${model.lineage.slice(0, 8)}/${model.position}`],
    ["learned", `${count(model.examples_learned)} examples`],
    ["learning", model.halted ? `halted at ${model.halted.position}` : model.frozen ? "frozen" : "on"],
    ["checkpoint", checkpoint.position === null ? "none yet" : `at ${checkpoint.position}, ${seconds(checkpoint.age_seconds)} ago`],
  ]);
  const since = status.since_start;
  const letters = Object.entries(since).filter(([name]) => name.startsWith("dead_letters.")).reduce((sum, [, n]) => sum + n, 0);
  pairs("worker", [
    ["partitions", `${Object.keys(partitions.owned).length} owned, ${Object.keys(partitions.suspended).length} suspended`],
    ["up for", seconds(status.uptime_seconds)],
    ["predicted", count(since.predictions || 0)],
    ["dead letters", count(letters)],
    ["held", `${count(pending.events)} events, ${count(pending.labels)} labels, ${count(pending.bytes / 1e6)}\u00a0MB`],
    ["river", status.versions.river],
  ]);
}

// --- the connection ---
// A hidden page lets go of its stream: browsers have few connections for one host, and a worker few followers.

const QUIET_MS = 5000; // without a status, which comes every two seconds even where the loop hangs
const AGAIN_MS = 20000; // then it is asked anew
let source = null;
let heard = Date.now();
let lost = false;

function connect() {
  if (document.hidden || (source !== null && source.readyState !== EventSource.CLOSED)) return;
  source = new EventSource("/v1/stream");
  source.onmessage = async (message) => {
    heard = Date.now();
    if (lost) { lost = false; await history(); }
    show(JSON.parse(message.data));
  };
  source.onerror = () => { source.close(); missing(); setTimeout(connect, 1000); };
}

async function missing() { // a stream that is refused is no dead worker: 16 others may follow it
  try {
    const answer = await fetch("/v1/status", { signal: AbortSignal.timeout(QUIET_MS) });
    const status = await answer.json();
    heard = Date.now();
    if (lost) { lost = false; await history(); }
    show(status);
  } catch (error) {
    if (!document.hidden) silent();
  }
}

function silent() {
  lost = true;
  const since = clock.format(heard);
  state("no answer", "critical");
  if (!changed("problems", ["silent", since])) return;
  byId("words").className = "critical";
  write("words-title", "What is wrong");
  replace(byId("problems"), [element("li", `The worker does not answer since ${since}: what stands below is from before. It is asked again all the time.`)]);
}

setInterval(() => {
  const quiet = Date.now() - heard;
  if (document.hidden || quiet < QUIET_MS) return;
  silent();
  if (quiet > AGAIN_MS && source !== null) { heard = Date.now() - QUIET_MS; source.close(); connect(); }
}, 1000);

document.addEventListener("visibilitychange", () => {
  if (document.hidden && source !== null) source.close();
  else { heard = Date.now(); history().then(connect); }
});

async function history() {
  try {
    const answer = await fetch("/v1/history");
    points.splice(0, points.length, ...(await answer.json()));
  } catch (error) { points.splice(0); }
  drawAll();
}

let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawAll(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
history().then(connect);
