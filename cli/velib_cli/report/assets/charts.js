// One function a chart: what to draw of the data, or why there is nothing to draw.

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };
const drawn = new Map();

// Reading the charting library takes a browser's only thread for more than a second. It is read
// when a chart comes near the screen, when a station is chosen, or when the reader has had a while.
const UNASKED_MS = 3000;
let wantCharts;
const chartsWanted = new Promise((resume) => { wantCharts = resume; });

function awaitWish() {
  const nearest = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) wantCharts();
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll(".chart")) nearest.observe(figure);
  setTimeout(wantCharts, UNASKED_MS);
  return chartsWanted.then(() => nearest.disconnect());
}

function layout(extra = {}) {
  const axis = {
    gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"),
    tickfont: { color: colour("muted") }, fixedrange: true, automargin: true,
  };
  const { xaxis = {}, yaxis = {}, ...rest } = extra;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    margin: { l: 8, r: 8, t: 8, b: 8 }, separators: choice.lang === "fr" ? ", " : ".,",
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    hovermode: "closest", dragmode: false,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("accent") },
    xaxis: { ...axis, showgrid: false, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

const line = (name, x, y, shade, more = {}) => ({
  type: "scatter", mode: "lines", name, ...atPolls(x, y),
  line: { color: colour(shade), width: 2, ...more }, connectgaps: false,
});

// Between the polls of a slow feed nothing is missing: only more than its usual step is a gap.
function atPolls(x, y) {
  const known = y.flatMap((value, n) => ((value ?? null) === null ? [] : [n]));
  const steps = known.slice(1).map((n, k) => n - known[k]).sort((a, b) => a - b);
  const step = steps[steps.length >> 1] ?? 1;
  const gap = (n) => y.slice(Math.max(0, n - step + 1), n + step).every((value) => (value ?? null) === null);
  const keep = y.map((value, n) => step === 1 || (value ?? null) !== null || gap(n));
  return { x: x.filter((_, n) => keep[n]), y: y.filter((_, n) => keep[n]) };
}

const share = () => (choice.lang === "fr" ? " %" : "%");
const narrow = () => innerWidth < 560;
const judged = () => data.horizons[choice.judged];
const none = (key) => ({ none: key });

function truthChart() {
  const truth = judged()?.truth;
  if (!truth) return none("empty.truth");
  const x = truth.ts.map((stamp) => wall(new Date(stamp)));
  return {
    traces: [
      line(text("series.truth"), x, truth.truth, "truth", { width: 2.25 }),
      line(text("series.forecast"), x, truth.forecast, "model", { width: 2.5 }),
      line(text("series.persistence"), x, truth.persistence, "muted", { width: 1.5, dash: "dot" }),
    ],
    layout: { xaxis: { tickformat: "%H:%M" }, yaxis: { rangemode: "tozero", title: { text: text("axis.bikes") } }, hovermode: "x unified" },
  };
}

function hoursChart() {
  const hours = judged()?.by_hour;
  if (!hours) return none("empty.truth");
  const bar = (name, y, shade) => ({
    type: "bar", name, x: hours.hour, y, marker: { color: colour(shade) },
    hovertemplate: `%{x} h, %{y:.2f}<extra>${name}</extra>`,
  });
  const usual = worth()?.by_hour;
  return {
    traces: [bar(text("series.model"), hours.mae_model, "model"),
      bar(text("series.persistence"), hours.mae_baseline, "persistence"),
      ...(usual?.usual.some((mae) => mae !== null) ? [{
        ...line(text("series.usual"), usual.group, usual.usual, "usual", { dash: "dot" }), mode: "lines+markers",
        hovertemplate: `%{x} h, %{y:.2f}<extra>${text("series.usual")}</extra>` }] : [])],
    layout: { barmode: "group", bargap: 0.3, xaxis: { dtick: 3, ticksuffix: " h" }, yaxis: { title: { text: text("axis.bikes") } } },
  };
}

const worth = () => data.value[choice.judged];
const lifts = (columns, other) => columns.forecast.map((mae, n) => (columns[other][n] ? 100 * (1 - mae / columns[other][n]) : null));

// Stockouts that a warning came before, and how many warnings were false, at every horizon.
function warnedChart() {
  const known = data.horizons.map(({ minutes }, n) => ({ minutes, value: data.value[n] })).filter(({ value }) => value);
  element("warned-about").textContent = known.length ? text("warned.about", {
    level: percent(known[0].value.level), days: number(known[0].value.days.length) }) : "";
  if (!known.length) return none("empty.value");
  const x = known.map(({ minutes }) => text("horizon", { h: minutes }));
  const bar = (key, shade, of) => ({
    type: "bar", name: text(key), x, y: known.map(({ value }) => of(value.warnings)), marker: { color: colour(shade) },
    texttemplate: `%{y:.0f}${share()}`, textposition: "outside", constraintext: "none", cliponaxis: false, hovertemplate: `%{y:.1f}${share()}<extra>%{fullData.name}</extra>`,
  });
  const part = (a, b) => (b ? (100 * a) / b : null);
  return {
    traces: [bar("warned.bike", "empty", ({ bike }) => part(bike.warned, bike.stockouts)),
      bar("warned.dock", "full", ({ dock }) => part(dock.warned, dock.stockouts)),
      bar("warned.false", "persistence", ({ bike, dock }) => part(bike.warnings + dock.warnings - bike.warned - dock.warned, bike.warnings + dock.warnings))],
    layout: { barmode: "group", bargap: 0.35, xaxis: { type: "category" }, yaxis: { range: [0, 105], ticksuffix: share() } },
  };
}

function reliabilityChart() {
  const value = worth();
  if (!value) return none("empty.value");
  const curve = (kind, key, shade) => ({
    ...line(text(key), value.reliability[kind].map(([p]) => 100 * p), value.reliability[kind].map(([, came]) => 100 * came), shade),
    mode: "lines+markers", marker: { size: 7, color: colour(shade) }, customdata: value.reliability[kind].map(([, , n]) => number(n)),
    hovertemplate: `%{x:.0f}${share()} → %{y:.1f}${share()} (n = %{customdata})<extra>%{fullData.name}</extra>`,
  });
  return {
    traces: [line(text("reliability.ideal"), [0, 100], [0, 100], "muted", { width: 1, dash: "dot" }),
      curve("bike", "mode.bike", "empty"), curve("dock", "mode.dock", "full")],
    layout: {
      xaxis: { range: [0, 100], ticksuffix: share(), title: { text: text("reliability.said") } },
      yaxis: { range: [0, 104], ticksuffix: share(), title: { text: text("reliability.came") } },
    },
  };
}

function sizesChart() {
  const value = worth();
  if (!value) return none("empty.value");
  const edges = [0, ...value.sizes];
  const name = (g) => text(g < value.sizes.length ? "sizes.to" : "sizes.over", { a: edges[g] + 1, b: value.sizes[g], n: edges[g] });
  const bar = (key, other, shade) => ({
    type: "bar", name: text(key), x: value.by_size.group.map(name), y: lifts(value.by_size, other), marker: { color: colour(shade) },
    customdata: value.by_size.n.map((n) => number(n)), hovertemplate: `%{y:+.1f}${share()} (n = %{customdata})<extra>%{fullData.name}</extra>`,
  });
  return {
    traces: [bar("against.persistence", "now", "model"), bar("against.usual", "usual", "usual")]
      .filter(({ y }) => y.some((lift) => lift !== null)),
    layout: { barmode: "group", bargap: 0.35, xaxis: { type: "category", title: { text: text("axis.docks") } }, yaxis: { ticksuffix: share(), zeroline: true } },
  };
}

// The days of the window one by one, and the weeks before them by the models, one a week.
function trendChart() {
  const days = judged()?.by_day ?? { date: [], mae_model: [], mae_baseline: [] };
  const lift = (mine, base) => (mine !== null && base ? 100 * (1 - mine / base) : null);
  const models = (judged()?.models ?? []).filter(({ mae_persistence: base }) => base)
    .map(({ version, end_date: date, mae, mae_persistence: base }) => ({ version, date, lift: lift(mae, base) }));
  if (!days.date.length && !models.length) return none("empty.truth");
  const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
  const daily = days.mae_model.map((mae, n) => lift(mae, days.mae_baseline[n]));
  const weekly = daily.map((_, n) => (n < 6 ? null
    : lift(sum(days.mae_model.slice(n - 6, n + 1)), sum(days.mae_baseline.slice(n - 6, n + 1)))));
  const hover = `%{x|%d/%m}, %{y:+.1f}${share()}<extra>%{fullData.name}</extra>`;
  const dates = [...days.date, ...models.map(({ date }) => date)].sort();
  const span = (Date.parse(dates[dates.length - 1]) - Date.parse(dates[0])) / DAY_MS + 1;
  return {
    traces: [{ ...line(text("trend.day"), days.date, daily, "model", { width: 1 }), mode: "lines+markers", marker: { size: 7 }, hovertemplate: hover },
      ...(daily.length > 6 ? [{ ...line(text("trend.week"), days.date, weekly, "truth"), hovertemplate: hover }] : []),
      ...(models.length ? [{
        type: "scatter", mode: "markers", name: text("trend.models"), x: models.map(({ date }) => date), y: models.map((model) => model.lift),
        marker: { size: 9, symbol: "diamond-open", color: colour("usual"), line: { width: 2 } },
        customdata: models.map(({ version }) => version), hovertemplate: `%{customdata}, ${hover}` }] : [])],
    layout: { xaxis: { type: "date", tickformat: "%d/%m", tick0: dates[0], dtick: DAY_MS * Math.ceil(span / 7) }, yaxis: { rangemode: "tozero", ticksuffix: share(), zeroline: true } },
  };
}

function residualsChart() {
  const errors = judged()?.residuals;
  if (!errors) return none("empty.truth");
  const total = errors.counts.reduce((sum, count) => sum + count, 0);
  const middle = errors.counts.map((_, n) => (errors.bins[n] + errors.bins[n + 1]) / 2);
  return {
    traces: [{
      type: "bar", x: middle, y: errors.counts.map((count) => (100 * count) / total),
      marker: { color: colour("model") }, hovertemplate: `%{x:+d}, %{y:.1f}${share()}<extra></extra>`,
    }],
    layout: { showlegend: false, bargap: 0.12, xaxis: { tickformat: "d", tick0: 0, dtick: Math.ceil(middle.length / 10), title: { text: text("axis.bikes") } }, yaxis: { ticksuffix: share() } },
  };
}

function coverageChart() {
  const coverage = data.coverage;
  if (!coverage) return none("empty.coverage");
  const hours = [...Array(24).keys()];
  const days = coverage.days.map((day) => moment(day, { timeZone: "UTC", day: "numeric", month: "short" }));
  const lowest = Math.min(...coverage.pct.flat().filter((pct) => pct !== null));
  return {
    traces: [{
      type: "heatmap", x: hours, y: days, z: coverage.pct, xgap: 2, ygap: 2,
      zmin: Math.min(90, Math.floor(lowest)), zmax: 100,
      colorscale: [[0, colour("risk")], [0.75, colour("empty")], [1, colour("whole")]],
      colorbar: {
        thickness: 10, outlinewidth: 0, ticksuffix: share(), tickfont: { color: colour("muted") },
        ...(narrow() ? { orientation: "h", y: -0.2, yanchor: "top", len: 0.9 } : {}),
      },
      text: coverage.pct.map((row, day) => row.map((pct, hour) => text("coverage.hover",
        { day: days[day], hour, pct: number(pct, 1) }))),
      hovertemplate: "%{text}<extra></extra>", hoverongaps: false,
    }],
    layout: {
      showlegend: false, xaxis: { dtick: narrow() ? 6 : 3, ticksuffix: " h" },
      yaxis: { type: "category", autorange: "reversed", showgrid: false },
    },
  };
}

const usualKnown = () => data.curve?.usual[1].some((value) => value !== null) ?? false;

function curveChart() {
  element("curve-about").textContent = text(usualKnown() ? "curve.about" : "curve.about.alone");
  if (!data.curve) return none("empty.curve");
  const day = (clocks) => clocks.map((time) => `2000-01-01 ${time}`);
  const [hours, pct] = data.curve.today;
  const [usualHours, usual] = data.curve.usual;
  const known = usualKnown();
  const today = line(text("series.today"), day(hours), pct, "model", { width: 2.75 });
  const earlier = (lag, key, shade, dash) => {
    const [clocks, shares] = data.curve.before[lag];
    return clocks.length ? [line(text(key), day(clocks), shares, shade, { width: 1.5, dash })] : [];
  };
  if (pct.length < 24) today.mode = "lines+markers";
  return {
    traces: [...(known ? [line(text("series.usual"), day(usualHours), usual, "usual", { dash: "dot" })] : []),
      ...earlier(7, "series.week", "full", "dash"), ...earlier(1, "series.yesterday", "persistence", "solid"), today],
    layout: {
      xaxis: { type: "date", tickformat: "%H:%M", range: ["2000-01-01 00:00", "2000-01-02 00:00"] },
      yaxis: { ticksuffix: share() }, hovermode: "x unified",
    },
  };
}

function threshold(value, vertical) {
  const along = vertical ? { x0: value, x1: value, yref: "paper", y0: 0, y1: 1 }
    : { y0: value, y1: value, xref: "paper", x0: 0, x1: 1 };
  return { type: "line", ...along, line: { color: colour("warm"), width: 1, dash: "dash" } };
}

const limits = () => Object.values(data.drift.thresholds).filter((value) => typeof value === "number");

function driftChart() {
  const known = data.drift?.features.filter((row) => row.psi !== null) ?? [];
  if (!known.length) return none("empty.drift");
  const top = Math.max(...known.map((row) => row.psi), ...limits()) * 1.08;
  return {
    traces: [{
      type: "bar", orientation: "h", y: known.map((row) => row.feature), x: known.map((row) => row.psi),
      marker: { color: colour("model") }, hovertemplate: "%{y}, %{x:.3f}<extra></extra>",
    }],
    layout: {
      showlegend: false, bargap: 0.35, xaxis: { range: [0, top], showgrid: true }, yaxis: { autorange: "reversed" },
      shapes: limits().map((value) => threshold(value, true)),
    },
  };
}

const DAY_MS = 86400000;

function driftdaysChart() {
  const [days, psi] = data.drift?.daily ?? [[], []];
  if (!psi.some((value) => value !== null)) return none("empty.drift");
  return {
    traces: [{ ...line(text("series.psi"), days, psi, "model"), mode: "lines+markers", marker: { size: 7 } }],
    layout: {
      showlegend: false, xaxis: { type: "date", tickformat: "%d/%m", tick0: days[0], dtick: DAY_MS * Math.ceil(days.length / 7) },
      yaxis: { range: [0, Math.max(...psi, ...limits()) * 1.08] },
      shapes: limits().map((value) => threshold(value, false)),
    },
  };
}

const LARGEST_DOT = 28;

function timelineChart() {
  const rows = data.pipeline.rows;
  if (!rows.length) return none("empty.pipeline");
  const minutes = (Date.parse(rows[0][1]) - Date.parse(rows[rows.length - 1][1])) / 60000;
  return {
    traces: [{
      type: "scatter", mode: "markers", x: rows.map((row) => wall(new Date(row[1]))), y: rows.map((row) => row[2]),
      marker: {
        color: colour("model"), opacity: 0.55, line: { width: 0 },
        size: rows.map((row) => Math.min(LARGEST_DOT, 5 + 5 * Math.sqrt(row[4] ?? 0))),
      },
      text: rows.map((row) => row[0]),
      customdata: rows.map((row) => text("timeline.hover", { seconds: number(row[4], 2), cause: row[3] })),
      hovertemplate: "<b>%{text}</b><br>%{x|%H:%M:%S} · %{customdata}<extra>%{y}</extra>",
    }],
    layout: { showlegend: false, xaxis: { nticks: narrow() ? 3 : 6, tickangle: 0, tickformat: minutes < 30 && !narrow() ? "%H:%M:%S\n%d/%m" : "%H:%M\n%d/%m" }, yaxis: { type: "category", categoryorder: "category descending" } },
  };
}

const CHARTS = {
  warned: warnedChart, reliability: reliabilityChart, sizes: sizesChart, trend: trendChart,
  truth: truthChart, hours: hoursChart, residuals: residualsChart, coverage: coverageChart,
  curve: curveChart, drift: driftChart, driftdays: driftdaysChart, timeline: timelineChart,
};

const tallCharts = {
  coverage: () => (narrow() ? 140 : 90) + 26 * (data.coverage?.days.length ?? 0),
  drift: () => 60 + 24 * (data.drift?.features.length ?? 0),
  timeline: () => 70 + 24 * (data.pipeline.functions.length),
};

// Heights are known before anything is drawn, so that nothing moves under the reader's eyes.
function reserve() {
  for (const id of Object.keys(CHARTS)) {
    const made = CHARTS[id]();
    if (made.none) draw(id);
    else if (tallCharts[id]) element(id).style.height = `${tallCharts[id]()}px`;
  }
}

function draw(id) {
  const made = CHARTS[id]();
  const figure = element(id);
  figure.classList.toggle("none", Boolean(made.none));
  if (made.none) {
    if (drawn.get(id)) Plotly.purge(figure);
    figure.style.height = "";
    figure.replaceChildren(emptyNote(made.none));
    drawn.set(id, false);
    return;
  }
  if (!window.Plotly) return;
  if (!drawn.get(id)) figure.replaceChildren();
  if (tallCharts[id]) figure.style.height = `${tallCharts[id]()}px`;
  label(figure, figure.closest("article").querySelector("h3").textContent);
  Plotly.react(figure, made.traces, layout(made.layout), CONFIG);
  drawn.set(id, true);
}

function label(figure, words, role = "img") {
  figure.setAttribute("role", role);
  figure.setAttribute("aria-label", words);
}

// A chart is drawn when it comes near the screen; once drawn it follows language and theme.
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    nearby.unobserve(entry.target);
    draw(entry.target.id);
  }
}, { rootMargin: "400px" });

function redraw() {
  for (const id of Object.keys(CHARTS)) {
    if (drawn.has(id)) draw(id);
    else nearby.observe(element(id));
  }
}

function drawAll() {
  for (const id of Object.keys(CHARTS)) {
    nearby.unobserve(element(id));
    draw(id);
  }
}
