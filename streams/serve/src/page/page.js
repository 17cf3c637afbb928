"use strict";
// Draws what GET /events says. State is kept by query; a frame of the browser draws it once,
// however much came.

const KEPT_ROWS = 600; // rows that are kept for charts and table
const SHOWN_ROWS = 12; // rows of the table
const SERIES_MAX = 6; // lines of a chart; more cannot be told apart
const SPAN_S = 120; // seconds of the small charts
const MARKS = ["circle", "square", "triangle", "diamond", "cross", "plus"];
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "12 4", "1 4"];

const queries = new Map();
let isDue = false;

const id = (name) => document.getElementById(name);
const SVG = "http://www.w3.org/2000/svg";

function element(kind, attributes, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function compact(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(1) + " G";
  if (size >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
  if (Number.isInteger(value)) return String(value);
  return size >= 100 ? value.toFixed(0) : size >= 1 ? value.toFixed(1) : value.toPrecision(2);
}

function bytes(value) {
  if (value >= 1 << 30) return (value / (1 << 30)).toFixed(1) + " GiB";
  if (value >= 1 << 20) return (value / (1 << 20)).toFixed(1) + " MiB";
  if (value >= 1024) return (value / 1024).toFixed(1) + " KiB";
  return value + " B";
}

function seconds(us) {
  if (us === null || us === undefined) return "–";
  const s = us / 1e6;
  const size = Math.abs(s);
  if (size < 1) return (s * 1e3).toFixed(0) + " ms";
  if (size < 120) return s.toFixed(1) + " s";
  if (size < 7200) return (s / 60).toFixed(0) + " min";
  if (size < 172800) return (s / 3600).toFixed(0) + " h";
  return (s / 86400).toFixed(0) + " d";
}

function clock(us) {
  return us === null ? "–" : new Date(us / 1000).toISOString().slice(11, 19);
}

function isNumber(kind) {
  return /^(TINYINT|SMALLINT|INT|BIGINT|FLOAT|DOUBLE|DECIMAL)/.test(kind);
}

// Which column is time, which are keys, which is drawn: the last number, as aggregates are named
// after keys.
function roles(fields) {
  const times = fields.filter((field) => /^TIMESTAMP/.test(field.kind));
  const time = times.find((field) => field.name === "window_end") || times[0];
  const numbers = fields.filter((field) => isNumber(field.kind));
  const value = numbers[numbers.length - 1];
  const keys = fields.filter((field) => !times.includes(field) && field !== value &&
    !/^(FLOAT|DOUBLE)/.test(field.kind));
  return { time, value, keys };
}

function query(data) {
  const old = queries.get(data.name);
  const made = old || { rows: [], open: [], points: [], figures: null, rate: null };
  Object.assign(made, { name: data.name, fields: data.fields, sql: data.sql, roles: roles(data.fields) });
  if (!old) build(made);
  queries.set(data.name, made);
}

function figures(of, now) {
  const before = of.points[of.points.length - 1];
  const at = performance.now() / 1000;
  if (before && at - before.at < 0.2) {
    of.figures = now;
    return;
  }
  const passed = before ? at - before.at : 0;
  const rate = before && passed > 0 ? Math.max(0, now.rows - before.rows) / passed : null;
  const late = before ? Math.max(0, now.late + now.diverted - before.lost) : 0;
  of.points.push({ at, rows: now.rows, lost: now.late + now.diverted, rate, late, lag: now.lag_us });
  while (of.points.length > 2 && at - of.points[0].at > SPAN_S) of.points.shift();
  const since = of.points.find((point) => at - point.at < 3) || before;
  const span = since ? at - since.at : 0;
  of.rate = span > 0 ? (now.rows - since.rows) / span : rate;
  of.figures = now;
}

const TILES = [
  ["rows in", (f) => compact(f.rows)],
  ["rows/s", (f, of) => (f.ended ? "ended" : compact(of.rate))],
  ["ns/row", (f) => (f.rows ? compact(f.busy_ns / f.rows) : "–")],
  ["rows out", (f) => compact(f.out)],
  ["watermark", (f) => clock(f.watermark_us)],
  ["lag", (f) => seconds(f.lag_us)],
  ["late", (f) => compact(f.late), (f) => f.late > 0],
  ["diverted", (f) => compact(f.diverted), (f) => f.diverted > 0],
  ["keys", (f) => compact(f.keys)],
  ["panes", (f) => compact(f.panes)],
  ["state", (f) => bytes(f.state_bytes)],
  ["log/row", (f) => (f.rows && f.log_bytes ? (f.log_bytes / f.rows).toFixed(2) + " B" : "–")],
];

function build(of) {
  of.state = element("span", { class: "state" });
  of.tiles = TILES.map(([name]) => {
    const value = element("dd", {}, "–");
    return { value, item: element("div", {}, element("dt", {}, name), value) };
  });
  of.chart = element("section", {});
  of.small = element("section", { class: "small" });
  of.table = element("div", { class: "rows", tabindex: "0", role: "region", "aria-label": `rows of ${of.name}` });
  of.article = element("article", { id: `query-${of.name}` },
    element("div", { class: "title" }, element("h2", {}, of.name), of.state),
    element("details", {}, element("summary", {}, "SQL"), element("pre", {}, of.sql)),
    element("dl", {}, ...of.tiles.map((tile) => tile.item)),
    element("div", { class: "charts" }, of.chart, of.small),
    of.table);
  const later = [...queries.values()].filter((other) => other.name > of.name);
  later.sort((a, b) => (a.name < b.name ? -1 : 1));
  id("queries").insertBefore(of.article, later.length ? later[0].article : null);
}

function keyOf(of, row) {
  const { keys } = of.roles;
  if (keys.length === 1 && isNumber(keys[0].kind)) return `${keys[0].name} ${row[keys[0].name]}`;
  return keys.map((field) => String(row[field.name])).join(" / ");
}

// The lines of the chart of windows: the keys with the largest latest values.
function series(of) {
  const { time, value } = of.roles;
  const found = new Map();
  if (!time || !value) return { found: [], more: 0 };
  const add = (row, isOpen) => {
    const at = Date.parse(row[time.name] + (/Z$/.test(row[time.name]) ? "" : "Z"));
    const y = Number(row[value.name]);
    if (!Number.isFinite(at) || row[value.name] === null || !Number.isFinite(y)) return;
    const key = keyOf(of, row);
    if (!found.has(key)) found.set(key, { key, points: [] });
    found.get(key).points.push({ at, y, isOpen });
  };
  of.rows.forEach((row) => add(row, false));
  of.open.forEach((row) => add(row, true));
  const all = [...found.values()];
  for (const one of all) {
    one.points.sort((a, b) => a.at - b.at);
    one.points = one.points.slice(-80);
    one.last = one.points[one.points.length - 1];
  }
  all.sort((a, b) => b.last.at - a.last.at || b.last.y - a.last.y);
  const shown = all.slice(0, SERIES_MAX).sort((a, b) => (a.key < b.key ? -1 : 1));
  return { found: shown, more: all.length - shown.length };
}

function ticks(low, high) {
  const span = high - low || 1;
  const raw = span / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(at);
  return found;
}

function mark(kind, x, y, size) {
  const s = size;
  switch (kind) {
    case "circle": return shape("circle", { class: "mark", cx: x, cy: y, r: s });
    case "square": return shape("rect", { class: "mark", x: x - s, y: y - s, width: 2 * s, height: 2 * s });
    case "triangle": return shape("path", { class: "mark", d: `M${x} ${y - s}L${x + s} ${y + s}H${x - s}Z` });
    case "diamond": return shape("path", { class: "mark", d: `M${x} ${y - s}L${x + s} ${y}L${x} ${y + s}L${x - s} ${y}Z` });
    case "cross": return shape("path", { class: "mark", d: `M${x - s} ${y - s}L${x + s} ${y + s}M${x + s} ${y - s}L${x - s} ${y + s}` });
    default: return shape("path", { class: "mark", d: `M${x - s} ${y}H${x + s}M${x} ${y - s}V${y + s}` });
  }
}

function drawWindows(of) {
  const { time, value } = of.roles;
  const title = element("h3", {});
  if (!time || !value) {
    title.textContent = "no column of time and number to draw";
    of.chart.replaceChildren(title);
    return;
  }
  const { found, more } = series(of);
  title.textContent = `${value.name} by ${time.name}` + (more > 0 ? `, ${SERIES_MAX} of ${SERIES_MAX + more} keys` : "");
  if (!found.length) {
    title.textContent += ": no window yet";
    of.chart.replaceChildren(title);
    return;
  }
  const width = Math.max(300, of.chart.clientWidth || 600);
  const height = width > 500 ? 330 : 260;
  const names = found.map((one) => one.key || value.name);
  const right = Math.min(width / 3, 18 + 7 * Math.max(...names.map((name) => Math.min(name.length, 22))));
  const box = { left: 44, top: 8, right: width - right, bottom: height - 22 };
  const points = found.flatMap((one) => one.points);
  const [first, last] = [Math.min(...points.map((p) => p.at)), Math.max(...points.map((p) => p.at))];
  let [low, high] = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))];
  if (low > 0 && low < high / 2) low = 0;
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const x = (at) => (last === first ? (box.left + box.right) / 2 : box.left + ((at - first) / (last - first)) * (box.right - box.left));
  const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title.textContent}; latest ${found.map((one) => `${one.key} ${compact(one.last.y)}`).join(", ")}` });
  for (const at of ticks(low, high)) {
    svg.append(shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y(at), y2: y(at) }));
    svg.append(shape("text", { x: box.left - 6, y: y(at) + 4, "text-anchor": "end" }, compact(at)));
  }
  for (const at of first === last ? [first] : [first, (first + last) / 2, last]) {
    const anchor = at === first && first !== last ? "start" : at === last && first !== last ? "end" : "middle";
    svg.append(shape("text", { x: x(at), y: height - 4, "text-anchor": anchor }, new Date(at).toISOString().slice(11, 19)));
  }
  drawLines(svg, found, { x, y, box, value });
  of.chart.replaceChildren(title, svg);
}

function drawLines(svg, found, { x, y, box, value }) {
  // A name stands where its line of final rows ends: the open ones fall away from there.
  const ending = (one) => one.points.filter((p) => !p.isOpen).pop() || one.last;
  const labels = found.map((one) => ({ one, y: y(ending(one).y) })).sort((a, b) => a.y - b.y);
  for (let at = 1; at < labels.length; at++) labels[at].y = Math.max(labels[at].y, labels[at - 1].y + 13);
  const over = labels.length ? labels[labels.length - 1].y - box.bottom : 0;
  if (over > 0) labels.forEach((label) => { label.y -= over; });
  found.forEach((one, number) => {
    const path = (points) => points.map((p, at) => `${at ? "L" : "M"}${x(p.at).toFixed(1)} ${y(p.y).toFixed(1)}`).join("");
    const closed = one.points.filter((p) => !p.isOpen);
    const open = one.points.filter((p) => p.isOpen);
    const joined = closed.length ? [closed[closed.length - 1], ...open] : open;
    svg.append(shape("path", { class: "line", d: path(closed), "stroke-dasharray": DASHES[number] }));
    if (joined.length > 1) svg.append(shape("path", { class: "line open", d: path(joined) }));
    const step = Math.max(1, Math.ceil(one.points.length / 12));
    one.points.forEach((p, at) => {
      if ((one.points.length - 1 - at) % step === 0) {
        const made = mark(MARKS[number], x(p.at), y(p.y), 3);
        if (p.isOpen) made.classList.add("open");
        svg.append(made);
      }
    });
    const label = labels.find((label) => label.one === one);
    const name = one.key || value.name;
    const end = ending(one);
    // A mark at the end of the line says it already.
    const isBeside = x(end.at) > box.right - 1 && Math.abs(label.y - y(end.y)) < 1;
    if (!isBeside) svg.append(mark(MARKS[number], box.right + 10, label.y, 3));
    svg.append(shape("text", { class: "name", x: box.right + 18, y: label.y + 4 },
      name.length > 22 ? name.slice(0, 21) + "…" : name));
  });
}

// A small chart of the last two minutes: a line, or bars.
function small(of, title, unit, pick, isBars) {
  const [width, height, left] = [320, 74, 44];
  const now = performance.now() / 1000;
  const points = of.points.filter((p) => pick(p) !== null && pick(p) !== undefined);
  const values = points.map(pick);
  const high = Math.max(...values, isBars ? 1 : 0) || 1;
  const low = Math.min(0, ...values);
  const x = (at) => left + (1 - (now - at) / SPAN_S) * (width - left);
  const y = (value) => 60 - ((value - low) / (high - low || 1)) * 52;
  const latest = values.length ? unit(values[values.length - 1]) : "–";
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${latest}` });
  svg.append(shape("line", { class: "grid", x1: left, x2: width, y1: y(low), y2: y(low) }));
  svg.append(shape("text", { x: left - 6, y: y(high) + 6, "text-anchor": "end" }, values.length ? unit(high) : ""));
  svg.append(shape("text", { x: left - 6, y: y(low) + 2, "text-anchor": "end" }, low < 0 ? unit(low) : "0"));
  svg.append(shape("text", { x: left, y: height - 1 }, "2 min ago"));
  svg.append(shape("text", { x: width, y: height - 1, "text-anchor": "end" }, "now"));
  if (isBars) {
    for (const point of points) {
      if (pick(point) > 0) {
        svg.append(shape("rect", { class: "bar", x: x(point.at) - 1.5, width: 3, y: y(pick(point)), height: y(0) - y(pick(point)) }));
      }
    }
  } else if (points.length) {
    const line = points.map((p, at) => `${at ? "L" : "M"}${x(p.at).toFixed(1)} ${y(pick(p)).toFixed(1)}`).join("");
    svg.append(shape("path", { class: "area", d: `${line}V${y(low)}H${x(points[0].at).toFixed(1)}Z` }));
    svg.append(shape("path", { class: "trend", d: line }));
  }
  return element("div", {}, element("h3", {}, `${title}: ${latest}`), svg);
}

function drawTable(of) {
  const head = element("tr", {}, element("th", {}, ""),
    ...of.fields.map((field) => element("th", isNumber(field.kind) ? { class: "number" } : {}, field.name)));
  const line = (row, isOpen) => element("tr", isOpen ? { class: "open" } : {},
    element("td", {}, isOpen ? "open" : "final"),
    ...of.fields.map((field) => {
      const value = row[field.name];
      const isReal = typeof value === "number" && !Number.isInteger(value);
      const text = value === null ? "–" : isReal ? String(Number(value.toPrecision(8))) : String(value).replace("T", " ");
      return element("td", isNumber(field.kind) ? { class: "number" } : {}, text);
    }));
  const open = of.open.slice(0, 4);
  const rows = of.rows.slice(-(SHOWN_ROWS - open.length)).reverse();
  const body = element("tbody", {}, ...open.map((row) => line(row, true)), ...rows.map((row) => line(row, false)));
  of.table.replaceChildren(element("table", {}, element("thead", {}, head), body));
}

function draw() {
  isDue = false;
  id("none").hidden = queries.size > 0;
  for (const of of queries.values()) {
    if (of.figures) {
      TILES.forEach(([, show, warns], at) => {
        of.tiles[at].value.textContent = show(of.figures, of);
        of.tiles[at].value.className = warns && warns(of.figures) ? "warn" : "";
      });
      const others = of.figures.together > 1 ? `; ${of.figures.together} queries share rows, panes, keys, state and log` : "";
      of.state.textContent = (of.figures.ended ? "ended" : "running") + others;
    }
    drawWindows(of);
    of.small.replaceChildren(
      small(of, "rows/s", compact, (p) => p.rate, false),
      small(of, "lag", seconds, (p) => p.lag, false),
      small(of, "late and diverted", compact, (p) => p.late, true));
    drawTable(of);
  }
}

function due() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(draw);
}

function listen() {
  const source = new EventSource("/events");
  const on = (kind, act) => source.addEventListener(kind, (event) => {
    act(JSON.parse(event.data));
    due();
  });
  const known = (act) => (data) => {
    const of = queries.get(data.name);
    if (of) act(of, data);
  };
  source.onopen = () => {
    id("link").textContent = "● live";
    id("link").className = "";
  };
  source.onerror = () => {
    id("link").textContent = "○ connection lost; trying again …";
    id("link").className = "lost";
  };
  on("site", (data) => {
    id("site").textContent = data.site;
    for (const of of queries.values()) of.article.remove();
    queries.clear();
  });
  on("query", query);
  on("rows", known((of, data) => {
    of.rows = (data.state ? data.rows : of.rows.concat(data.rows)).slice(-KEPT_ROWS);
  }));
  on("windows", known((of, data) => { of.open = data.rows; }));
  on("figures", known((of, data) => figures(of, data.figures)));
  on("gone", known((of) => {
    of.article.remove();
    queries.delete(of.name);
  }));
}

listen();
due();
// Small charts move with the clock even while nothing comes.
setInterval(due, 1000);
