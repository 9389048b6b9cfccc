// The words and tables of the page, the switches, and the order in which it comes up.

const LATE_MINUTES = 60;

function intro() {
  const open = data.stations?.bikes.filter((count) => count !== null).length ?? 0;
  const bikes = data.stations?.bikes.reduce((sum, count) => sum + (count ?? 0), 0);
  element("network").textContent = text("network", { network: data.network });
  element("headline").textContent = data.stations
    ? text("headline", { bikes: number(bikes), stations: number(open) }) : text("headline.none");
  const minutes = (Date.now() - Date.parse(data.newest)) / 60000;
  const late = minutes > LATE_MINUTES;
  element("age").className = late ? "lede late" : "lede";
  element("age").textContent = data.newest
    ? text(late ? "age.late" : "age.fresh", { when: moment(data.newest), age: span(minutes), tz: data.tz })
    : text("age.none");
  element("colophon").textContent = text("colophon", { when: moment(data.made_at) });
}

function lights() {
  if (!data.statuses) {
    element("lights").replaceChildren(node("li", {}, text("lights.none")));
    return;
  }
  const high = data.alerts.some((alert) => alert.level === "high");
  const alarm = node("li", {}, text("now.alerts"), node("span", { class: `light ${high ? "down" : data.alerts.length ? "warn" : "ok"}` },
    data.alerts.length ? number(data.alerts.length) : text("led.none")));
  element("lights").replaceChildren(alarm, ...data.statuses.map(({ name, led, psi_global: psi, source_generated_at: made }) => {
    const [, kind, minutes] = name.match(/^(.*?)(?:_h(\d+))?$/);
    const named = hasText(`status.${kind}`) ? text(`status.${kind}`, { h: minutes }) : name;
    const known = ["ok", "warn", "down"].includes(led) ? led : "down";
    const unasked = kind === "weather_provider" && data.freshness?.weather?.reason;
    const young = kind === "data_drift" && made && psi === null; // no earlier days to compare with
    const untrained = kind === "batch_forecast" && !data.horizons.find((horizon) => String(horizon.minutes) === minutes)?.models.length;
    const absent = unasked ? "led.none" : young || untrained ? "led.later" : null;
    return node("li", {}, named, absent ? node("span", { class: "note" }, text(absent))
      : node("span", { class: `light ${known}` }, text(`led.${known}`)));
  }));
}

function tiles() {
  const seen = data.overview;
  const said = (value) => percent(value === null || value === undefined ? null : value / 100, 1);
  const far = data.horizons[data.horizons.length - 1];
  const rows = [
    ["tile.active", number(seen?.stations_active), seen ? text("tile.active.more", { n: number(seen.stations_universe) }) : null],
    ["tile.penury", said(seen?.penury_pct), seen ? text("tile.share.more") : null],
    ["tile.saturation", said(seen?.saturation_pct), seen ? text("tile.share.more") : null],
    ["tile.coverage", said(data.health?.kpis.coverage_global_pct), data.health ? text("tile.coverage.more") : null],
    ["tile.error", number(far?.kpis?.mae_model, 2), far?.kpis?.mae_model != null ? text("tile.error.more", { n: number(far.kpis.mae_baseline, 2) }) : null],
  ];
  element("tiles").replaceChildren(...rows.map(([key, value, more]) => node("div", {},
    node("dt", {}, text(key, { h: far?.minutes })), node("dd", {}, value), node("dd", {}, more ?? text("tile.unknown")))));
}

function scores() {
  const lift = (value) => (value === null || value === undefined ? "–"
    : node("span", { class: value > 0 ? "better" : value < 0 ? "worse" : "" }, `${value > 0 ? "+" : ""}${percent(value, 1)}`));
  const rows = data.horizons.flatMap(({ minutes, kpis }) => [["scores.hindcast", kpis], ["scores.served", kpis?.served]]
    .filter(([, of]) => of && of.mae_model !== null && of.mae_model !== undefined)
    .map(([kind, of]) => [text("horizon", { h: minutes }), text(kind), number(of.mae_model, 3),
      number(of.mae_baseline, 3), lift(of.lift_vs_baseline), number(of.n),
      of.brier_bike == null ? "–" : `${number(of.brier_bike, 3)} / ${number(of.brier_dock, 3)}`]));
  element("scores").replaceChildren(rows.length ? table([[text("scores.horizon"), ""], [text("scores.kind"), ""],
    [text("scores.model"), "n"], [text("scores.persistence"), "n"], [text("scores.lift"), "n"], [text("scores.n"), "n"], [text("scores.brier"), "n"]], rows)
    : emptyNote("empty.truth"));
  const truth = judged()?.truth;
  element("truth-about").textContent = truth ? text("truth.about", { name: truth.name || truth.station_id }) : "";
}

function health() {
  const box = element("health");
  if (!data.health) return box.replaceChildren(emptyNote("empty.health"));
  const { kpis, lowest } = data.health;
  const share = (value) => percent(value / 100, 2);
  const units = { coverage_global_pct: share, dups_pct: share, freshness_age_p95_min: span, report_lag_p95_min: span };
  const rows = Object.entries(kpis).map(([key, value]) =>
    [text(`health.${key}`), value === null ? "–" : units[key]?.(value) ?? number(value)]);
  rows.push([text("health.quarantined"), number(data.quarantine.total)]);
  const made = node("table", {}, node("tbody", {}, ...rows.map(([name, value]) =>
    node("tr", {}, node("th", { scope: "row" }, name), node("td", { class: "n" }, value)))));
  box.replaceChildren(made);
  if (lowest.length) {
    box.append(node("p", { class: "about" }, text("health.lowest")), table([["", ""], ["", "n"]], lowest.map((row) =>
      [row.name || row.station_id, text("health.missing", { n: number(row.missing), pct: number(row.coverage_pct, 1) })])));
  }
}

// Stations that the forecast served worse than persistence.
function worst() {
  const rows = data.value[choice.judged]?.worst ?? [];
  element("worst").replaceChildren(rows.length ? table([[text("now.station"), ""], [text("scores.model"), "n"], [text("scores.persistence"), "n"]],
    rows.map(([id, name, mine, base]) => [node("a", { href: `#station=${encodeURIComponent(id)}` }, name || id), number(mine, 2), number(base, 2)]))
    : emptyNote(data.value[choice.judged] ? "worst.none" : "empty.value"));
}

function models() {
  const rows = data.horizons.flatMap((horizon) => horizon.models.map((model) => [
    node("span", {}, model.version, " ", model.live ? node("span", { class: "pill" }, text("models.live")) : ""),
    text("horizon", { h: horizon.minutes }), number(model.mae, 3), number(model.mae_persistence, 3),
    `${model.start_date ?? "–"} … ${model.end_date ?? "–"}`, number(model.n_train), number(model.feature_count), moment(model.built_at_utc)]));
  element("models").replaceChildren(rows.length ? table([[text("models.version"), ""], [text("models.horizon"), ""], [text("models.error"), "n"], [text("models.persistence"), "n"],
    [text("models.window"), "line"], [text("models.rows"), "n"], [text("models.features"), "n"], [text("models.built"), "line"]], rows)
    : emptyNote("empty.models"));
}

function pipeline() {
  const { total, rows, functions } = data.pipeline;
  element("timeline-about").textContent = total ? text("timeline.about", { shown: number(rows.length), total: number(total) }) : "";
  // A long name breaks after a slash, where it breaks at all.
  const code = (words) => node("code", {}, ...(words ?? "–").split(/(?<=\/)/).flatMap((part) => [part, node("wbr")]));
  const seconds = (value) => text("unit.s", { n: number(value, 2) });
  const bytes = (size) => (size < 10240 ? `${number(size / 1024, 1)} KiB` : size < 1048576 ? `${number(size / 1024)} KiB` : `${number(size / 1048576, 1)} MiB`);
  element("made").replaceChildren(total ? table([[text("made.when"), "line"], [text("made.function"), ""], [text("made.object"), "path"],
    [text("made.cause"), "path"], [text("made.seconds"), "n"], [text("made.size"), "n"]],
  rows.slice(0, 100).map(([name, at, made, cause, took, size]) => [moment(at, { timeStyle: "medium" }), code(made), code(name), code(cause), seconds(took), bytes(size)]))
    : emptyNote("empty.pipeline"));
  element("functions").replaceChildren(functions.length ? table([[text("made.function"), ""], [text("functions.objects"), "n"], [text("functions.median"), "n"], [text("functions.slowest"), "n"]],
    functions.map(([name, count, median, slowest]) => [code(name), number(count), seconds(median), seconds(slowest)])) : emptyNote("empty.pipeline"));
}

function dead() {
  const letters = data.dead_letters;
  const said = letters === null ? text("dead.unknown", { network: data.network })
    : letters === 0 ? text("dead.none") : text("dead.some", { n: number(letters) });
  const { total, rows } = data.quarantine;
  element("dead").replaceChildren(node("p", { class: "small" }, said),
    node("p", { class: "small" }, total ? text("quarantine.some", { n: number(total) }) : text("quarantine.none")));
  if (rows.length) {
    element("dead").append(node("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": text("dead.title") }, table([[text("quarantine.source"), "path"], [text("quarantine.reason"), ""]],
      rows.map(([source, reason]) => [node("code", {}, source), node("span", { lang: "en" }, reason)]))));
  }
}

// Why cards of a section are empty: once for the section, where all or some of them are.
const EXPLAINED = { accuracy: ["model/performance"], data: ["data/health", "network/overview", "data/drift"] };

function explain() {
  for (const [section, families] of Object.entries(EXPLAINED)) {
    const cards = [...document.querySelectorAll(`#${section}-section article`)];
    const waiting = cards.filter((card) => card.querySelector(".empty"));
    const reasons = [...new Set(families.map((family) => data.reasons[family]).filter(Boolean).map(reasonText))];
    const box = element(`${section}-why`);
    box.hidden = !waiting.length || !reasons.length;
    box.replaceChildren(text("empty.said"), " ", ...reasons.flatMap((reason, n) => [n ? ", " : "", node("q", {}, reason)]));
    if (section !== "accuracy") continue;
    const all = waiting.length === cards.length; // one cause: nothing has been scored
    element("accuracy-none").hidden = !all;
    element("accuracy-none").textContent = text("empty.value");
    for (const part of [element("accuracy-cards"), element("accuracy-horizons")]) part.hidden = all;
  }
}

function segments(id, items, chosen, pick) {
  element(id).replaceChildren(...items.map(([value, words, possible = true]) => {
    const made = node("button", { type: "button", "aria-pressed": String(value === chosen), "data-value": value }, words);
    made.disabled = !possible;
    made.addEventListener("click", () => {
      pick(value);
      element(id).querySelector(`[data-value="${value}"]`)?.focus(); // it was made anew
    });
    return made;
  }));
}

function mapSwitches() {
  const able = anyForecast();
  segments("modes", MODES.map((mode) => [mode, text(`mode.${mode}`), mode === "now" || able]), choice.mode, (mode) => {
    choice.mode = mode;
    mapSwitches();
    drawMap();
  });
  segments("horizons", data.horizons.map((horizon, n) => [n, text("horizon", { h: horizon.minutes }), choice.mode !== "now"]), choice.horizon, (n) => {
    choice.horizon = n;
    mapSwitches();
    drawMap();
  });
}

function accuracySwitch() {
  segments("accuracy-horizons", data.horizons.map((horizon, n) => [n, text("horizon", { h: horizon.minutes })]), choice.judged, (n) => {
    choice.judged = n;
    accuracySwitch();
    scores();
    worst();
    redraw();
    explain();
  });
}

function showTheme() {
  const name = text(`theme.${choice.theme}`);
  element("theme").replaceChildren(node("span", { class: "wordy" }, `${text("theme.label")} `), name);
  element("theme").setAttribute("aria-label", `${text("theme.label")} ${name}`);
}

function words() {
  document.documentElement.lang = choice.lang;
  document.title = text("title", { network: data.network });
  for (const item of document.querySelectorAll("[data-text]")) item.textContent = text(item.dataset.text);
  for (const item of document.querySelectorAll("[data-label]")) item.setAttribute("aria-label", text(item.dataset.label));
  for (const item of document.querySelectorAll("[data-placeholder]")) item.placeholder = text(item.dataset.placeholder);
  for (const item of document.querySelectorAll("[data-lang]")) item.setAttribute("aria-pressed", String(item.dataset.lang === choice.lang));
  showTheme();
  for (const part of [intro, lights, tiles, actions, mapSwitches, accuracySwitch, scores, worst, health, models, pipeline, dead, search, reserve, explain]) part();
}

function charts() {
  drawMap();
  showStation();
  redraw();
}

const THEMES = ["auto", "light", "dark"];

function listen() {
  element("search").addEventListener("input", search);
  element("search").addEventListener("keydown", searchKey);
  element("sheet-close").addEventListener("click", () => element("sheet").close());
  element("sheet").addEventListener("close", putBack);
  listenToActions();
  for (const button of document.querySelectorAll("[data-lang]")) {
    button.addEventListener("click", () => {
      choice.lang = button.dataset.lang;
      remember("lang", choice.lang);
      words();
      charts();
    });
  }
  element("theme").addEventListener("click", () => {
    choice.theme = THEMES[(THEMES.indexOf(choice.theme) + 1) % THEMES.length];
    document.documentElement.dataset.theme = choice.theme;
    remember("theme", choice.theme);
    showTheme();
    charts();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
  addEventListener("beforeprint", drawAll);
}

// Words, tables and links first: they react before the charting library is read.
async function start() {
  choice.lang = remembered("lang", ["fr", "en"], navigator.language.startsWith("fr") ? "fr" : "en");
  choice.theme = remembered("theme", THEMES, "auto");
  document.documentElement.dataset.theme = choice.theme;
  data = JSON.parse(await unpacked("data"));
  choice.horizon = choice.judged = Math.max(0, data.horizons.length - 1);
  choice.station = judged()?.truth?.station_id ?? liveliest();
  words();
  showStation();
  listen();
  document.documentElement.dataset.readable = String(Math.round(performance.now()));
  await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume)));
  document.documentElement.dataset.interactive = String(Math.round(performance.now()));
  followLink();
  await awaitWish();
  document.head.append(node("script", {}, await unpacked("library")));
  charts();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
