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

function seconds(number) {
  if (number === null || number === undefined) return "-";
  if (number < 1) return `${Math.round(number * 1000)} ms`;
  if (number < 120) return `${number.toFixed(1)} s`;
  return number < 7200 ? `${Math.round(number / 60)} min` : `${(number / 3600).toFixed(1)} h`;
}

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
    label, stroke: color(number ? "--two" : "--one"), width: 2, dash: number ? [6, 4] : [], spanGaps: true,
    value: (_, value) => text(value),
  }));
  const options = {
    width: Math.max(200, place.clientWidth), height: 150, series: [{}, ...series], cursor: { drag: { x: false, y: false } },
    axes: [{ ...axis, space: 80 }, { ...axis, size: 62, values: (_, all) => all.map((value) => text(value)) }],
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
  points.push(point);
  if (points.length > KEPT) points.shift();
  DRAWN.forEach((one, number) => {
    charts[number].setData(data(one));
    const last = one[1].map((key, place) => `${one[2][place]} ${one[3](point[key] ?? null)}`).join(", ");
    byId(one[0]).setAttribute("aria-label", `over the last ${Math.round(points.length / 60)} minutes; now ${last}`);
  });
}

// --- one status ---

function show(status) {
  write("app", status.app);
  write("instance", status.instance);
  document.title = `${status.problems.length ? `(${status.problems.length}) ` : ""}${status.app} - stream_ml`;
  state(status.ready ? "ready" : "not ready", status.ready ? "good" : "warning");
  problems(status.problems);
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
  write("state", text);
  byId("state").className = `pill ${className}`;
}

const WORDS = { critical: "Critical", warning: "Warning", info: "Note" };

function problems(found) {
  const worst = found.some((one) => one.severity === "critical") ? "critical" : found.length ? "warning" : "good";
  byId("words").className = worst;
  write("words-title", found.length ? "What is wrong" : "Nothing is wrong");
  const items = found.map((one) => {
    const item = element("li");
    item.append(element("b", `${WORDS[one.severity]}: `), one.text);
    if (one.suggestion) item.append(" Type ", element("code", one.suggestion));
    return item;
  });
  replace(byId("problems"), items.length ? items : [element("li", "Events are scored, labels are learned, a checkpoint is kept.")]);
}

function quality(status, point) {
  const window = (status.quality_windows.last || {});
  if (point.quality !== null && point.quality !== undefined) {
    write("quality", `${point.metric} ${point.quality.toFixed(3)} over the last ${count(window.examples)} labels; knowing only the labels ${point.baseline.toFixed(3)}`);
  }
  const delay = window.delay_seconds || {};
  const share = status.maturity.labelled_share;
  if (share !== undefined) {
    write("maturity", `${Math.round(share * 100)} % of the last ${count(status.maturity.events)} events have their label by now` +
      (delay.p50 === undefined ? "." : `; half of the labels come within ${seconds(delay.p50)}, nine in ten within ${seconds(delay.p90)}.`));
  }
}

function scores(counts) {
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
  byId("scores").setAttribute("aria-label", total ? `${total} scores, most between ${top / 10} and ${(top + 1) / 10}` : "no scores in the last minute");
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
  const rows = Object.entries(found.subjects).sort((one, other) => other[1].psi - one[1].psi).map(([name, of]) => {
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
  const items = [...found].reverse().map((one) => {
    const item = element("li");
    item.append(element("b", `${one.kind.replace("_", " ")}, ${one.subject}`, one.severity === "info" ? "" : one.severity), ` ${one.message} `);
    item.append(element("code", one.suggestion));
    return item;
  });
  replace(byId("signals"), items.length ? items : [element("li", "none yet")]);
}

function last(found) {
  const rows = [...found].reverse().map((one) => {
    const row = element("tr");
    row.append(element("td", one.event_id), element("td", one.said === null ? "nothing: cold" : String(one.said)),
      element("td", one.score === null ? "-" : one.score.toFixed(4), "number"), element("td", one.partition, "number"), element("td", one.offset, "number"));
    return row;
  });
  replace(byId("last").tBodies[0], rows);
}

function pairs(id, found) {
  replace(byId(id), found.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function health(status) {
  const { model, checkpoint, pending, partitions } = status;
  pairs("model", [
    ["version", `${model.lineage.slice(0, 8)}/${model.position}`],
    ["learned", `${count(model.examples_learned)} examples`],
    ["learning", model.halted ? `halted at ${model.halted.position}` : model.frozen ? "frozen" : "on"],
    ["checkpoint", checkpoint.position === null ? "none yet" : `at ${checkpoint.position}, ${seconds(checkpoint.age_seconds)} ago`],
  ]);
  const since = status.since_start;
  const letters = Object.entries(since).filter(([name]) => name.startsWith("dead_letters.")).reduce((sum, [, n]) => sum + n, 0);
  pairs("worker", [
    ["partitions", `${Object.keys(partitions.owned).length} owned, ${Object.keys(partitions.parked).length} parked`],
    ["up for", seconds(status.uptime_seconds)],
    ["predicted", count(since.predictions || 0)],
    ["dead letters", count(letters)],
    ["waiting", `${count(pending.events)} events, ${count(pending.labels)} labels, ${count(pending.bytes / 1e6)} MB`],
    ["river", status.versions.river],
  ]);
}

// --- the connection ---

let source = null;
let lost = null;

function connect() {
  source = new EventSource("/v1/stream");
  source.onmessage = (message) => {
    if (lost !== null) { lost = null; history(); }
    show(JSON.parse(message.data));
  };
  source.onerror = () => {
    if (lost === null) lost = Date.now();
    state(`no answer for ${Math.round((Date.now() - lost) / 1000)} s`, "critical");
    byId("words").className = "critical";
    write("words-title", "What is wrong");
    replace(byId("problems"), [element("li", "The worker does not answer: what stands below is from before. It is asked again every second.")]);
    source.close();
    setTimeout(connect, 1000);
  };
}

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
