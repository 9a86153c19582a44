"use strict";
// What clients have sent is only ever set as textContent.

const PERIOD = 1000, KEPT = 600, ROWS = 200;
const at = (id) => document.getElementById(id);
const charts = { running: [], queued: [], requests: [], sent: [] };
let sort = "elapsed", paused = false, connected = false;

function size(bytes) {
  if (bytes == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

function time(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  const minutes = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return whole < 3600 ? minutes : `${Math.floor(whole / 3600)}:${minutes}`;
}

function line(cells) {
  const row = document.createElement("tr");
  for (const [label, text, free] of cells) {
    const cell = document.createElement("td");
    cell.dataset.label = label;
    cell.textContent = text ?? "–";
    if (free) cell.className = "free";
    row.append(cell);
  }
  return row;
}

function fill(body, rows, nothing) {
  if (rows.length === 0) {
    const cell = document.createElement("td");
    cell.colSpan = body.previousElementSibling.rows[0].cells.length;
    cell.className = "none";
    cell.textContent = nothing;
    const row = document.createElement("tr");
    row.append(cell);
    rows = [row];
  }
  body.replaceChildren(...rows);
}

function draw(name) {
  const values = charts[name], chart = at(`chart-${name}`);
  const most = Math.max(1, ...values);
  const wide = Math.max(60, values.length), first = wide - values.length;
  const points = values.map((value, i) => `${first + i},${30 - 28 * value / most}`);
  const space = "http://www.w3.org/2000/svg";
  let path = chart.firstElementChild;
  if (!path) {
    path = document.createElementNS(space, "polyline");
    chart.setAttribute("preserveAspectRatio", "none");
    chart.append(path);
  }
  chart.setAttribute("viewBox", `0 0 ${wide - 1} 32`);
  path.setAttribute("points", points.join(" "));
}

function note(name, value) {
  charts[name].push(value);
  if (charts[name].length > KEPT) charts[name].shift();
  draw(name);
}

function session(row) {
  const transport = row.paths == null ? row.transport : `${row.transport}, ${row.paths} paths`;
  const bytes = row.sent_bytes == null ? null : row.sent_bytes + row.received_bytes;
  const rate = row.sent_per_second == null ? null : row.sent_per_second + row.received_per_second;
  return line([
    ["Client", row.client],
    ["Service", row.service],
    ["Repository", row.repository, true],
    ["State", row.state.replaceAll("-", " ")],
    ["Elapsed", time(row.elapsed_seconds)],
    ["Bytes", size(bytes)],
    ["Rate", rate == null ? "–" : `${size(rate)}/s`],
    ["RTT", row.rtt_seconds == null ? "–" : `${(row.rtt_seconds * 1000).toFixed(1)} ms`],
    ["Transport", transport],
    ["CPU", time(row.cpu_seconds)],
    ["Memory", size(row.memory_bytes)],
  ]);
}

function talkers(rows) {
  const all = new Map();
  for (const row of rows) {
    const one = all.get(row.address) ?? { address: row.address, count: 0, bytes: 0, rate: 0, cpu: 0 };
    one.count += 1;
    one.bytes += (row.sent_bytes ?? 0) + (row.received_bytes ?? 0);
    one.rate += (row.sent_per_second ?? 0) + (row.received_per_second ?? 0);
    one.cpu += row.cpu_seconds ?? 0;
    all.set(row.address, one);
  }
  const most = [...all.values()].sort((a, b) => b.rate - a.rate || b.bytes - a.bytes || b.count - a.count);
  return most.slice(0, 10).map((one) => line([
    ["Address", one.address],
    ["Connections", one.count],
    ["Bytes", size(one.bytes)],
    ["Rate", `${size(one.rate)}/s`],
    ["CPU", time(one.cpu)],
  ]));
}

function show(now, timed) {
  at("version").textContent = now.version;
  at("phase").textContent = now.phase;
  at("phase").className = `badge ${now.phase}`;
  at("limit").textContent = now.max_connections ?? "∞";
  for (const name of ["running", "queued", "idle", "pending"]) at(name).textContent = now[name];
  at("requests").textContent = now.requests_per_second;
  at("sent").textContent = size(now.sent_per_second);
  if (timed) {
    note("running", now.running);
    note("queued", now.queued);
    note("requests", now.requests_per_second);
    note("sent", now.sent_per_second);
  }
  // Clients that have asked for nothing yet are only counted.
  const served = now.sessions.filter((row) => row.service);
  at("count").textContent = served.length > ROWS ? `the first ${ROWS} of ${served.length}` : "";
  fill(at("rows"), served.slice(0, ROWS).map(session), "Nothing runs.");
  const queue = served.filter((row) => row.state === "queued");
  fill(at("queue"), queue.slice(0, ROWS).map((row) => line([
    ["Client", row.client],
    ["Repository", row.repository, true],
    ["Elapsed", time(row.elapsed_seconds)],
  ])), "Nobody waits.");
  fill(at("talkers"), talkers(now.sessions), "Nobody is here.");
}

async function ask(place) {
  const answer = await fetch(place, { signal: AbortSignal.timeout(5000), cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

async function history() {
  const past = await ask("/history");
  charts.running = past.running;
  charts.queued = past.queued;
  charts.requests = past.requests_per_second;
  charts.sent = past.sent_per_second;
}

async function second(timed) {
  if (paused || document.hidden) return;
  try {
    if (!connected) await history();
    connected = true;
    show(await ask(`/sessions?format=json&sort=${sort}`), timed);
  } catch {
    connected = false;
    at("phase").textContent = "no answer";
    at("phase").className = "badge lost";
  }
}

async function run() {
  await second(true);
  setTimeout(run, PERIOD);
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  connected = false;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
  second(false);
});

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    sort = button.dataset.sort;
    for (const head of document.querySelectorAll("th[aria-sort]")) head.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", "descending");
    second(false);
  });
}

document.addEventListener("visibilitychange", () => { connected = false; second(false); });
run();
