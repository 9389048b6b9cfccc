// One function a chart: what to draw of the data, or why there is nothing to draw.

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };
const drawn = new Map();

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
  type: "scatter", mode: "lines", name, x, y,
  line: { color: colour(shade), width: 2, ...more }, connectgaps: false,
});

const share = () => (choice.lang === "fr" ? " %" : "%");
const narrow = () => innerWidth < 560;
const judged = () => data.horizons[choice.judged];
const none = (key, said) => ({ none: key, said });

function truthChart() {
  const truth = judged()?.truth;
  if (!truth) return none("empty.truth", data.reasons["model/performance"]);
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
  if (!hours) return none("empty.truth", data.reasons["model/performance"]);
  const bar = (name, y, shade) => ({
    type: "bar", name, x: hours.hour, y, marker: { color: colour(shade) },
    hovertemplate: `%{x} h, %{y:.2f}<extra>${name}</extra>`,
  });
  return {
    traces: [bar(text("series.model"), hours.mae_model, "model"),
      bar(text("series.persistence"), hours.mae_baseline, "persistence")],
    layout: { barmode: "group", bargap: 0.3, xaxis: { dtick: 3, ticksuffix: " h" }, yaxis: { title: { text: text("axis.bikes") } } },
  };
}

function residualsChart() {
  const errors = judged()?.residuals;
  if (!errors) return none("empty.truth", data.reasons["model/performance"]);
  const total = errors.counts.reduce((sum, count) => sum + count, 0);
  const middle = errors.counts.map((_, n) => (errors.bins[n] + errors.bins[n + 1]) / 2);
  return {
    traces: [{
      type: "bar", x: middle, y: errors.counts.map((count) => (100 * count) / total),
      marker: { color: colour("model") }, hovertemplate: `%{x:+d}, %{y:.1f}${share()}<extra></extra>`,
    }],
    layout: { showlegend: false, bargap: 0.12, xaxis: { tickformat: "d", title: { text: text("axis.bikes") } }, yaxis: { ticksuffix: share() } },
  };
}

function coverageChart() {
  const coverage = data.coverage;
  if (!coverage) return none("empty.coverage");
  const hours = [...Array(24).keys()];
  const lowest = Math.min(...coverage.pct.flat().filter((pct) => pct !== null));
  return {
    traces: [{
      type: "heatmap", x: hours, y: coverage.days, z: coverage.pct, xgap: 2, ygap: 2,
      zmin: Math.min(90, Math.floor(lowest)), zmax: 100,
      colorscale: [[0, colour("risk")], [0.75, colour("empty")], [1, colour("whole")]],
      colorbar: {
        thickness: 10, outlinewidth: 0, ticksuffix: share(), tickfont: { color: colour("muted") },
        ...(narrow() ? { orientation: "h", y: -0.2, yanchor: "top", len: 0.9 } : {}),
      },
      text: coverage.pct.map((row, day) => row.map((pct, hour) => text("coverage.hover",
        { day: coverage.days[day], hour, pct: number(pct, 1) }))),
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
  if (pct.length < 24) today.mode = "lines+markers";
  return {
    traces: [...(known ? [line(text("series.usual"), day(usualHours), usual, "usual", { dash: "dot" })] : []), today],
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
  if (!known.length) return none("empty.drift", data.reasons["data/drift"] ?? data.drift?.features[0]?.reason);
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
  if (!psi.some((value) => value !== null)) return none("empty.drift", data.reasons["data/drift"]);
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
  truth: truthChart, hours: hoursChart, residuals: residualsChart, coverage: coverageChart,
  curve: curveChart, drift: driftChart, driftdays: driftdaysChart, timeline: timelineChart,
};

const tallCharts = {
  coverage: () => (narrow() ? 140 : 90) + 26 * (data.coverage?.days.length ?? 0),
  drift: () => 60 + 24 * (data.drift?.features.length ?? 0),
  timeline: () => 70 + 24 * (data.pipeline.functions.length),
};

function draw(id) {
  const made = CHARTS[id]();
  const figure = element(id);
  figure.classList.toggle("none", Boolean(made.none));
  if (made.none) {
    if (drawn.get(id)) Plotly.purge(figure);
    figure.style.height = "";
    figure.replaceChildren(emptyNote(made.none, made.said));
    drawn.set(id, false);
    return;
  }
  if (!drawn.get(id)) figure.replaceChildren();
  if (tallCharts[id]) figure.style.height = `${tallCharts[id]()}px`;
  label(figure, figure.closest("article").querySelector("h3").textContent);
  Plotly.react(figure, made.traces, layout(made.layout), CONFIG);
  drawn.set(id, true);
}

function label(figure, words) {
  figure.setAttribute("role", "img");
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
