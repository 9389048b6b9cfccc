// What the page knows and what the reader chose: data, texts, language, theme, station.

const element = (id) => document.getElementById(id);

async function unpacked(id) {
  const packed = atob(element(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let n = 0; n < packed.length; n += 1) bytes[n] = packed.charCodeAt(n);
  element(id).remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const TEXTS = JSON.parse(element("texts").textContent);
let data = null;
const choice = { lang: "en", theme: "auto", mode: "now", horizon: 0, judged: 0, station: null };

function remembered(key, known, otherwise) {
  try {
    const kept = localStorage.getItem(`velib-report-${key}`);
    return known.includes(kept) ? kept : otherwise;
  } catch {
    return otherwise; // a page opened from a file may have no storage
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(`velib-report-${key}`, value);
  } catch {
    // the choice then lasts as long as the page
  }
}

function text(key, values = {}) {
  const found = TEXTS[choice.lang][key];
  if (found === undefined) throw new Error(`no text ${key} in ${choice.lang}`);
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "–");
}

const hasText = (key) => TEXTS[choice.lang][key] !== undefined;

// Hours run to 24 in both languages, as on the charts' axes.
const LOCALES = { fr: "fr-FR", en: "en-GB" };

// Formats are kept: making one costs more than using it a thousand times.
const formats = {};

function format(kind, options) {
  const key = choice.lang + kind + JSON.stringify(options);
  formats[key] ??= new Intl[kind](LOCALES[choice.lang], options);
  return formats[key];
}

function numeric(value, digits, style) {
  if (value === null || value === undefined) return "–";
  const options = { style, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return format("NumberFormat", options).format(value);
}

const number = (value, digits = 0) => numeric(value, digits, "decimal");
const percent = (share, digits = 0) => numeric(share, digits, "percent");

function moment(stamp, options = { dateStyle: "medium", timeStyle: "short" }) {
  if (!stamp) return "–";
  return format("DateTimeFormat", { timeZone: data.tz, hourCycle: "h23", ...options }).format(new Date(stamp));
}

const isPhone = () => matchMedia("(max-width: 900px)").matches;
const clock = (stamp) => moment(stamp, { hour: "2-digit", minute: "2-digit" });

// Charts have no time zones: they are given the local clock as if it were universal.
function wall(instant) {
  formats.wall ??= new Intl.DateTimeFormat("sv-SE", {
    timeZone: data.tz, dateStyle: "short", timeStyle: "medium" });
  return formats.wall.format(instant);
}

function span(minutes) {
  if (minutes < 100) return text("unit.min", { n: number(Math.max(0, Math.round(minutes))) });
  if (minutes < 48 * 60) return text("unit.h", { n: number(Math.round(minutes / 60)) });
  return text("unit.d", { n: number(Math.round(minutes / 1440)) });
}

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Everything from the lake is text and never markup.
function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.map((child) => child ?? ""));
  return made;
}

function table(columns, rows) {
  const head = columns.map(([name, kind]) => node("th", { scope: "col", class: kind }, name));
  const body = rows.map((row) => node("tr", {}, ...row.map((cell, n) =>
    node("td", { class: columns[n][1] }, cell))));
  return node("table", {}, node("thead", {}, node("tr", {}, ...head)), node("tbody", {}, ...body));
}

const emptyNote = (key) => node("p", { class: "empty" }, text(key));
