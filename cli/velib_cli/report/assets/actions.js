// What to do now: the alerts that stand, and the stations that run empty or full within the hour.

const SOON_MINUTES = 60;
const LEAST_RISK = 0.2;
const SURE = 0.8; // an alternative has a bike (a dock) with at least this probability
const MOST_ROWS = 200;
const asked = { kind: "all", words: "", quarter: "" };
let risks = [];

const nameOf = (n) => data.stations.name[n] || data.stations.id[n];
const quarterOf = (n) => data.map?.quarter[n] ?? null;
const quarterName = (q) => nameOf(data.map.named[q]);

function alertText(alert) {
  const kind = alert.code.startsWith("psi_") && !alert.code.startsWith("psi_global") ? "psi" : alert.code;
  const numberless = kind === "batch_forecast_down" && alert.value === 0;
  const key = numberless ? "alert.batch_forecast_numberless" : `alert.${kind}`;
  if (!hasText(key)) return choice.lang === "en" ? alert.text : text("alert.other", { code: alert.code });
  const minutes = /^h(\d+)\//.exec(alert.artefact ?? "")?.[1];
  const shown = (value) => (typeof value === "number"
    ? format("NumberFormat", { maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0 }).format(value) : value);
  return text(key, {
    value: shown(alert.value), threshold: shown(alert.threshold), feature: alert.code.replace("psi_", ""),
    h: minutes && text("horizon", { h: minutes }),
  });
}

function alertOrigin({ family, as_of: at }) {
  const named = text(`family.${family}`);
  return at ? text("now.asof", { family: named, when: moment(at) }) : `(${named})`;
}

// What `velib status` says of the lake, in the reader's language.
function findingText({ code, about, text: said }) {
  return hasText(`finding.${code}`) ? text(`finding.${code}`, { about }) : choice.lang === "en" ? said : text("alert.other", { code });
}

// Horizons whose forecast is of an earlier snapshot than the newest: forecasting has stopped.
const behind = () => data.horizons.filter(({ forecast, generated_at: at }) => forecast && Date.parse(at) < Date.parse(data.newest));

function alerts() {
  const stand = data.alerts.map((alert) => node("li", { class: alert.level },
    node("strong", {}, text(alert.level === "high" ? "level.high" : "level.medium")), " ", alertText(alert), " ",
    node("span", { class: "note" }, alertOrigin(alert))));
  stand.push(...behind().map(({ minutes, generated_at: at }) => node("li", { class: "high" }, text("now.behind", {
    h: text("horizon", { h: minutes }), when: moment(at), newest: moment(data.newest) }))));
  stand.push(...data.findings.map((finding) => node("li", { class: "high" }, findingText(finding),
    finding.command ? node("code", { class: "block" }, finding.command) : "")));
  stand.push(...data.unreadable.map((name) => node("li", { class: "high" }, text("now.unreadable"), " ", node("code", {}, name))));
  element("alerts").replaceChildren(node("h3", {}, text("now.alerts")), node("ul", { class: "alerts" },
    ...(stand.length ? stand : [node("li", { class: "none" }, text("health.noalerts"))])));
}

// The largest risk of each station within the hour, where there still is a bike (a dock).
function findRisks() {
  if (!data.stations) return [];
  const { id, bikes, docks, open } = data.stations;
  const soon = data.horizons.filter((horizon) => horizon.forecast && horizon.minutes <= SOON_MINUTES);
  const found = [];
  for (const [kind, left, column] of [["empty", bikes, "p_bike"], ["full", docks, "p_dock"]]) {
    for (let n = 0; n < id.length; n += 1) {
      if (open[n] === false || !(left[n] >= 1)) continue;
      const worst = soon.map((horizon) => ({ horizon, p: horizon.forecast[column][n] }))
        .filter(({ p }) => p !== null && p !== undefined).sort((a, b) => a.p - b.p)[0];
      if (!worst || 1 - worst.p < LEAST_RISK) continue;
      found.push({ n, kind, horizon: worst.horizon, risk: 1 - worst.p, other: nearest(n, worst.horizon.forecast[column]) });
    }
  }
  return found.sort((a, b) => b.risk - a.risk);
}

function nearest(n, p) {
  const { x, y } = data.stations;
  if (x[n] === null) return null;
  let best = null;
  for (let m = 0; m < x.length; m += 1) {
    if (m === n || x[m] === null || !(p[m] >= SURE)) continue;
    const km = Math.hypot(x[m] - x[n], y[m] - y[n]);
    if (best === null || km < best.km) best = { m, km };
  }
  return best;
}

function shownRisks() {
  const wanted = plain(asked.words.trim());
  return risks.filter(({ n, kind }) => (asked.kind === "all" || asked.kind === kind)
    && (asked.quarter === "" || quarterOf(n) === Number(asked.quarter))
    && (plain(nameOf(n)).includes(wanted) || data.stations.id[n].startsWith(wanted)));
}

const stationLink = (n) => node("a", { href: `#station=${encodeURIComponent(data.stations.id[n])}` }, nameOf(n));
// Whole numbers agree with their noun; "1.5 bikes" is plural in English.
const bikesOf = (n, digits = 0) => text(n === 1 ? "now.bike" : "now.bikes", { n: number(n, digits) });
const docksOf = (n) => text(n === 1 ? "now.dock" : "now.docks", { n: number(n) });
const metres = (km) => (km < 1 ? text("unit.m", { n: number(Math.round(km * 100) * 10) }) : text("unit.km", { n: number(km, 1) }));

function actionTable() {
  const rows = shownRisks();
  const able = anyForecast();
  element("now-about").textContent = text(able ? "now.about" : data.newest ? "now.nomodel" : "now.nosnapshot", {
    when: moment(data.newest), risk: percent(LEAST_RISK), sure: percent(SURE) });
  element("now-card").hidden = !able;
  if (!able) return;
  element("now-count").textContent = text(rows.length > MOST_ROWS ? "now.most" : "now.count", {
    n: number(rows.length), shown: number(MOST_ROWS) });
  const place = (n) => (quarterOf(n) === null ? "" : node("span", { class: "note block" }, quarterName(quarterOf(n))));
  const { bikes, docks } = data.stations;
  element("now").replaceChildren(rows.length ? table(
    [[text("now.station"), ""], [text("now.risk"), "n"], [text("now.runs"), ""], [text("now.left"), "n"],
      [text("now.expected"), "n"], [text("now.other"), ""]],
    rows.slice(0, MOST_ROWS).map(({ n, kind, horizon, risk, other }) => [
      node("span", {}, stationLink(n), place(n)),
      node("strong", {}, percent(risk)),
      text(kind === "empty" ? "now.empty" : "now.full", { h: text("horizon", { h: horizon.minutes }) }),
      kind === "empty" ? bikesOf(bikes[n]) : docksOf(docks[n]),
      bikesOf(horizon.forecast.bikes_pred[n], 1),
      other ? node("span", {}, stationLink(other.m), node("span", { class: "note block" }, metres(other.km))) : "–",
    ])) : node("p", { class: "empty" }, text("now.none")));
}

function actionRecords() {
  const { id, lat, lon, bikes, docks } = data.stations;
  return shownRisks().map(({ n, kind, horizon, risk, other }) => ({
    station_id: id[n], name: nameOf(n), district: quarterOf(n) === null ? null : quarterName(quarterOf(n)),
    lat: lat[n], lon: lon[n], runs: kind, horizon_min: horizon.minutes, target_utc: horizon.target,
    risk: Math.round(risk * 1000) / 1000, bikes: bikes[n], docks: docks[n], bikes_forecast: horizon.forecast.bikes_pred[n],
    alternative_id: other ? id[other.m] : null, alternative: other ? nameOf(other.m) : null,
    alternative_m: other ? Math.round(other.km * 1000) : null, snapshot_utc: data.newest,
  }));
}

// A spreadsheet takes a text that starts like a formula for one (OWASP, CSV injection).
function csv(records) {
  const cell = (value) => {
    const words = value === null ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(words) ? `'${words}` : words;
    return /[",\r\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const columns = Object.keys(records[0] ?? { station_id: "" });
  return [columns.join(","), ...records.map((record) => columns.map((key) => cell(record[key])).join(","))].join("\r\n");
}

function download(name, kind, content) {
  const link = node("a", { href: URL.createObjectURL(new Blob([content], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}

function actions() {
  risks = findRisks();
  alerts();
  segments("now-kinds", [["all", text("now.all")], ["empty", text("now.onlyempty")], ["full", text("now.onlyfull")]], asked.kind, (kind) => {
    asked.kind = kind;
    actions();
  });
  const places = data.map?.named ?? [];
  element("now-quarter").replaceChildren(node("option", { value: "" }, text("now.everywhere")),
    ...places.map((_, q) => node("option", { value: q }, quarterName(q))));
  element("now-quarter").value = asked.quarter;
  actionTable();
}

function listenToActions() {
  element("now-search").addEventListener("input", () => {
    asked.words = element("now-search").value;
    actionTable();
  });
  element("now-quarter").addEventListener("change", () => {
    asked.quarter = element("now-quarter").value;
    actionTable();
  });
  element("now-csv").addEventListener("click", () => download("stations.csv", "text/csv", `\ufeff${csv(actionRecords())}`));
  element("now-json").addEventListener("click", () => download("stations.json", "application/json", JSON.stringify(actionRecords(), null, 1)));
  addEventListener("hashchange", followLink);
}

// A link to a station opens it: from the table, from another page, or kept as a bookmark.
function followLink() {
  const id = /^#station=(.+)$/.exec(location.hash)?.[1];
  if (id === undefined || !data.stations?.id.includes(decodeURIComponent(id))) return;
  choose(decodeURIComponent(id), true);
  if (!isPhone()) element("map-section").scrollIntoView();
}
