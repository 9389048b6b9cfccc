// The map, the list beside it, and what is shown of the chosen station.

const MODES = ["now", "forecast", "bike", "dock"];
const MOST_MATCHES = 60;
const WORST_RISK = 0.5;
let matches = [];
let active = -1;

const forecasts = () => data.horizons[choice.horizon]?.forecast ?? null;
const anyForecast = () => data.horizons.some((horizon) => horizon.forecast?.bikes_pred.some((bikes) => bikes !== null));

function shareOf(n) {
  const { capacity, bikes, open } = data.stations;
  const ahead = forecasts();
  const risk = (p) => (p === null || p === undefined ? null : Math.min(1 - p, WORST_RISK) / WORST_RISK);
  const full = (count) => (count === null || count === undefined || !capacity[n] ? null : Math.min(1, Math.max(0, count / capacity[n])));
  if (choice.mode === "now") return open[n] === false ? null : full(bikes[n]);
  if (!ahead) return null;
  if (choice.mode === "forecast") return full(ahead.bikes_pred[n]);
  return risk(choice.mode === "bike" ? ahead.p_bike[n] : ahead.p_dock[n]);
}

function hoverOf(n) {
  const { name, bikes, docks } = data.stations;
  const ahead = forecasts();
  const p = (values) => percent(values?.[n] === null ? null : 1 - values?.[n], 1);
  const said = {
    now: () => text("hover.now", { bikes: number(bikes[n]), docks: number(docks[n]) }),
    forecast: () => text("hover.forecast", { bikes: number(ahead?.bikes_pred[n], 1) }),
    bike: () => text("hover.bike", { p: p(ahead?.p_bike) }),
    dock: () => text("hover.dock", { p: p(ahead?.p_dock) }),
  }[choice.mode]();
  return `<b>${escaped(name[n] || data.stations.id[n])}</b><br>${said}`;
}

const escaped = (words) => words.replace(/&/g, "&amp;").replace(/</g, "&lt;");

const colours = () => (choice.mode === "now" || choice.mode === "forecast"
  ? [[0, colour("empty")], [0.5, colour("middle")], [1, colour("full")]]
  : [[0, colour("calm")], [1, colour("risk")]]);

function placed() {
  return data.stations.id.map((_, n) => n).filter((n) => data.stations.x[n] !== null && data.stations.y[n] !== null);
}

function drawMap() {
  const figure = element("map");
  const here = data.stations ? placed() : [];
  figure.classList.toggle("none", !here.length);
  if (!here.length) {
    figure.replaceChildren(emptyNote(data.stations ? "empty.place" : "empty.snapshot"));
    return;
  }
  if (!window.Plotly) return;
  const { x, y, capacity, id } = data.stations;
  const shares = here.map(shareOf);
  const scale = colours();
  const [hollow, edge, rim] = ["rgba(0,0,0,0)", colour("muted"), colour("card")];
  const many = (here.length > 600 ? 0.62 : 1) * Math.min(1, Math.max(0.6, figure.clientWidth / 640));
  const stations = {
    type: "scatter", mode: "markers", name: "stations",
    x: here.map((n) => x[n]), y: here.map((n) => y[n]), customdata: here.map((n) => id[n]),
    text: here.map(hoverOf), hovertemplate: "%{text}<extra></extra>",
    marker: {
      opacity: 0.92, size: here.map((n) => many * (6 + 1.15 * Math.sqrt(capacity[n] ?? 0))),
      color: shares.map((share) => (share === null ? hollow : mixed(share, scale))),
      line: { width: shares.map((share) => (share === null ? 1.2 : 0.6)), color: shares.map((share) => (share === null ? edge : rim)) },
    },
  };
  const ring = {
    type: "scatter", mode: "markers", name: "chosen", hoverinfo: "skip", ...chosenPlace(),
    marker: { size: 26, color: hollow, line: { width: 2.5, color: colour("ink") } },
  };
  const bare = { visible: false, fixedrange: false };
  const note = (words, place) => ({ text: words, showarrow: false, font: { size: 11, color: colour("muted") }, ...place });
  const [left, right] = [Math.min(...stations.x), Math.max(...stations.x)];
  const bar = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((km) => km > (right - left) / 8) ?? 100;
  const bottom = Math.min(...stations.y) - 0.04 * (right - left || 1);
  label(figure, text("map.label"), "group"); // it has buttons, so it is no image
  mapNote(here.length, shares.filter((share) => share === null).length); // it leaves the map its height
  Plotly.react(figure, [stations, ring], layout({
    showlegend: false, margin: { l: 0, r: 0, t: 4, b: 4 }, xaxis: bare,
    yaxis: { ...bare, scaleanchor: "x" }, uirevision: "map",
    images: (data.map?.tiles ?? []).map(({ src, x: west, y: north, w, h }) => ({
      source: src, xref: "x", yref: "y", x: west, y: north, sizex: w, sizey: h, sizing: "stretch", layer: "below", opacity: 0.55 })),
    shapes: [...baseLines(), { type: "line", x0: left, x1: left + bar, y0: bottom, y1: bottom, line: { color: colour("muted"), width: 2 } }],
    annotations: [
      note(text("unit.km", { n: number(bar, bar < 1 ? 1 : 0) }), { x: left + bar / 2, y: bottom, yanchor: "bottom" }),
      note(`<b>↑</b><br>${text("map.north")}`, { xref: "paper", yref: "paper", x: 0.01, y: 0.99, xanchor: "left", yanchor: "top" }),
    ],
    hoverdistance: matchMedia("(pointer: coarse)").matches ? 40 : 20,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "pan",
  }), { ...CONFIG, displayModeBar: "hover", modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d"]] });
  if (figure._fullLayout.height !== figure.clientHeight) Plotly.Plots.resize(figure);
  nameQuarters(figure);
  if (!figure.dataset.listens) {
    figure.on("plotly_relayout", (change) => {
      if (!("annotations" in change)) nameQuarters(figure); // zoomed, moved or resized
    });
    figure.on("plotly_click", (event) => {
      const picked = event.points.find((point) => point.customdata !== undefined);
      if (picked) choose(picked.customdata, true);
    });
    figure.dataset.listens = "yes";
  }
}

function nameQuarters(figure) {
  const marks = figure.layout.annotations.filter(({ showarrow }) => !showarrow);
  Plotly.relayout(figure, { annotations: [...marks, ...quarterLabels(figure)] });
}

// The base map that the operator named: water, green and streets in faint lines under the stations.
function baseLines() {
  const kinds = { green: "whole", water: "full", street: "middle" };
  return Object.entries(data.map?.lines ?? {}).map(([kind, [xs, ys]]) => {
    let start = true;
    const path = xs.map((east, n) => {
      const step = east === null ? "" : `${start ? "M" : "L"}${east},${ys[n]}`;
      start = east === null;
      return step;
    }).join("");
    return { type: "path", path, layer: "below", opacity: 0.45, line: { width: kind === "street" ? 0.6 : 1.1, color: colour(kinds[kind] ?? "middle") } };
  });
}

// The station whose bikes moved most: what is shown where no forecast has been judged yet.
function liveliest() {
  if (!data.stations) return null;
  const spreads = data.stations.history.bikes.map((series) => {
    const seen = series.filter((bikes) => bikes !== null);
    return seen.length ? Math.max(...seen) - Math.min(...seen) : -1;
  });
  return data.stations.id[spreads.indexOf(Math.max(...spreads))] ?? null;
}

function chosenPlace() {
  const here = placed().filter((n) => data.stations.id[n] === choice.station);
  return { x: here.map((n) => data.stations.x[n]), y: here.map((n) => data.stations.y[n]) };
}

function mixed(share, scale) {
  const upper = Math.max(1, scale.findIndex(([at]) => at >= share));
  const [[low, from], [high, to]] = [scale[upper - 1], scale[upper]];
  const part = (share - low) / (high - low);
  const [a, b] = [from, to].map((hex) => [1, 3, 5].map((n) => parseInt(hex.slice(n, n + 2), 16)));
  return `rgb(${a.map((value, n) => Math.round(value + (b[n] - value) * part)).join(",")})`;
}

function mapNote(count, unknown) {
  const ahead = data.horizons[choice.horizon];
  const said = choice.mode === "now" || !ahead
    ? text("map.note.now", { n: number(count) })
    : text("map.note", { n: number(count), when: clock(ahead.target), version: ahead.model_version });
  const unplaced = data.stations.id.length - count;
  element("map-note").textContent = [said,
    unknown ? text("map.note.unknown", { n: number(unknown) }) : "",
    unplaced ? text("map.note.unplaced", { n: number(unplaced) }) : "",
    anyForecast() ? "" : text("map.note.noforecast")].filter(Boolean).join(" ");
  const risky = choice.mode === "bike" || choice.mode === "dock";
  element("scale-low").textContent = text(risky ? "scale.never" : "scale.empty");
  element("scale-high").textContent = text(risky ? "scale.always" : "scale.full");
  element("scale").style.background = `linear-gradient(90deg, ${colours().map(([, shade]) => shade).join(", ")})`;
}

const plain = (words) => words.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function search() {
  if (!data.stations) {
    element("results").replaceChildren();
    element("matches").textContent = "";
    return;
  }
  const wanted = plain(element("search").value.trim());
  const { id, name } = data.stations;
  const order = new Intl.Collator(choice.lang, { numeric: true });
  matches = id.map((_, n) => n)
    .filter((n) => plain(name[n]).includes(wanted) || id[n].startsWith(wanted))
    .sort((a, b) => order.compare(name[a] || id[a], name[b] || id[b]));
  active = -1;
  element("matches").textContent = matches.length
    ? text("search.count", { n: number(matches.length) }) : text("search.none");
  element("results").replaceChildren(...matches.slice(0, MOST_MATCHES).map(option));
  element("search").removeAttribute("aria-activedescendant");
}

function option(n, place) {
  const { id, name, bikes, capacity } = data.stations;
  const made = node("li", {
    role: "option", id: `option-${place}`, "data-station": id[n],
    "aria-selected": String(id[n] === choice.station),
  }, node("span", {}, name[n] || id[n]), node("span", {}, `${number(bikes[n])} / ${number(capacity[n])}`));
  made.addEventListener("click", () => choose(id[n], true));
  return made;
}

function move(step) {
  const options = [...element("results").children];
  if (!options.length) return;
  options[active]?.classList.remove("active");
  active = Math.min(options.length - 1, Math.max(0, active + step));
  options[active].classList.add("active");
  const list = element("results"); // scrolled by hand: the page itself is to stay where it is
  const { offsetTop, offsetHeight } = options[active];
  const above = offsetTop - list.offsetTop;
  if (above < list.scrollTop) list.scrollTop = above;
  if (above + offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = above + offsetHeight - list.clientHeight;
  element("search").setAttribute("aria-activedescendant", options[active].id);
}

function searchKey(event) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && matches.length) {
    event.preventDefault();
    choose(data.stations.id[matches[Math.max(0, active)]], true);
  }
}

// On a telephone the chosen station comes up over the map: below it, nobody would see it.
function choose(id, asSheet = false) {
  choice.station = id;
  wantCharts();
  const sheet = element("sheet");
  if (asSheet && isPhone() && !sheet.open) {
    element("sheet-body").append(element("station"), element("station-chart"));
    sheet.showModal();
  }
  for (const item of element("results").children) {
    item.setAttribute("aria-selected", String(item.dataset.station === id));
  }
  const { x, y } = chosenPlace();
  if (element("map").data) Plotly.restyle("map", { x: [x], y: [y] }, [1]);
  showStation();
}

function putBack() {
  element("station-home").append(element("station"), element("station-chart"));
  showStation();
}

function showStation() {
  const panel = element("station");
  const n = data.stations?.id.indexOf(choice.station) ?? -1;
  element("station-chart").hidden = n < 0;
  if (n < 0) {
    panel.replaceChildren(emptyNote(data.stations ? "empty.station" : "empty.snapshot"));
    return;
  }
  const { id, name, capacity, bikes, docks, open } = data.stations;
  const figure = (key, value) => node("div", {}, node("dt", {}, text(key)), node("dd", {}, number(value)));
  panel.dataset.station = id[n];
  panel.replaceChildren(
    node("h3", {}, name[n] || id[n]),
    node("p", { class: "note" }, text("station.id", { id: id[n], capacity: number(capacity[n]) })
      + (open[n] === false ? `, ${text("station.closed")}` : "")),
    node("dl", { class: "figures" }, figure("station.bikes", bikes[n]), figure("station.docks", docks[n])),
    table([[text("station.in"), ""], [text("station.expected"), "n"], [text("station.pbike"), "n"], [text("station.pdock"), "n"]],
      data.horizons.map((horizon) => stationForecast(horizon, n))),
  );
  stationChart(n);
}

function stationForecast(horizon, n) {
  const ahead = horizon.forecast;
  const minutes = text("horizon", { h: horizon.minutes });
  const bikes = ahead?.bikes_pred[n] ?? null;
  if (bikes === null) {
    const live = horizon.models.some((model) => model.live);
    const reason = ahead?.reason[n] ?? (live ? "unknown" : "no_model");
    const key = hasText(`reason.${reason}`) ? `reason.${reason}` : "reason.unknown";
    return [minutes, text(key), "–", "–"];
  }
  return [minutes, number(bikes, 1), percent(ahead.p_bike[n]), percent(ahead.p_dock[n])];
}

function stationChart(n) {
  if (!window.Plotly) return;
  const { history, name, id, bikes } = data.stations;
  const from = (start, step) => (_, k) => wall(new Date(Date.parse(start) + k * step * 60000));
  const traces = [];
  if (data.usual?.bikes[n].some((value) => value !== null)) {
    const usual = data.usual.bikes[n];
    traces.push(line(text("series.usual"), usual.map(from(data.usual.start, data.usual.step_min)), usual, "usual", { dash: "dot", width: 1.75 }));
  }
  const seen = history.bikes[n];
  traces.push(line(text("series.observed"), seen.map(from(history.start, 5)), seen, "truth", { shape: "hv" }));
  const ahead = data.horizons.filter((horizon) => (horizon.forecast?.bikes_pred[n] ?? null) !== null);
  if (ahead.length) {
    traces.push({
      ...line(text("series.forecast"), [data.newest, ...ahead.map((horizon) => horizon.target)].map((stamp) => wall(new Date(stamp))),
        [bikes[n], ...ahead.map((horizon) => horizon.forecast.bikes_pred[n])], "model"),
      mode: "lines+markers", marker: { size: 8, color: colour("model") },
    });
  }
  label(element("station-chart"), text("station.chart", { name: name[n] || id[n] }));
  Plotly.react("station-chart", traces, layout({
    xaxis: { tickformat: "%H:%M", nticks: 6 }, yaxis: { rangemode: "tozero", title: { text: text("axis.bikes") } }, hovermode: "x unified",
  }), CONFIG);
}
