// Names of quarters on the map: each at a free place near its station, with a line to it. A name
// covers no dot and no other name; one without a free place is left out.

const LONGEST_LABEL = 22; // characters
const LABEL_PX = 11; // height of the letters
const LABEL_BOX = { pad: 3, height: 17 };
const LABEL_REACH = 0.3; // how far from its station a name may stand, as a share of the map's width
const DIRECTIONS = 16;
const STEP_PX = 8;
const short = (words) => (words.length > LONGEST_LABEL ? `${words.slice(0, LONGEST_LABEL - 1)}…` : words);

const boxOf = (x, y, width, height) => ({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

function wordsWidth(words) {
  formats.ink ??= document.createElement("canvas").getContext("2d");
  formats.ink.font = `${LABEL_PX}px ${getComputedStyle(document.body).fontFamily}`;
  return formats.ink.measureText(words).width + 2 * LABEL_BOX.pad;
}

// Small boxes along a line, which other names keep clear of.
function lineBoxes(from, to) {
  const count = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / STEP_PX);
  return Array.from({ length: count }, (_, k) =>
    boxOf(from.x + ((to.x - from.x) * k) / count, from.y + ((to.y - from.y) * k) / count, 2, 2));
}

// The nearest place at which a name covers nothing, and its line no other name; else null.
function freePlace(from, width, plot, taken, names) {
  for (let far = STEP_PX; far < LABEL_REACH * plot.w; far += STEP_PX) {
    for (let turn = 0; turn < DIRECTIONS; turn += 1) {
      const angle = (turn / DIRECTIONS) * 2 * Math.PI - Math.PI / 2;
      const dx = Math.cos(angle) * far + (Math.cos(angle) * width) / 2;
      const dy = Math.sin(angle) * far + (Math.sin(angle) * LABEL_BOX.height) / 2;
      const to = { x: from.x + dx, y: from.y + dy };
      const box = boxOf(to.x, to.y, width, LABEL_BOX.height);
      if (box.left < 0 || box.top < 0 || box.right > plot.w || box.bottom > plot.h) continue;
      if (taken.some((other) => overlap(box, other))) continue;
      const line = lineBoxes(from, to);
      if (!line.some((part) => names.some((name) => overlap(part, name)))) return { dx, dy, box, line };
    }
  }
  return null;
}

// Marks in the corners of the map: the north arrow, the buttons, the scale.
function corners(plot) {
  return [boxOf(20, 20, 40, 44), boxOf(plot.w - 75, 24, 150, 48), boxOf(0, plot.h, plot.w, 60)];
}

function quarterLabels(figure) {
  const { xaxis, yaxis, _size: plot } = figure._fullLayout;
  const { x, y } = data.stations;
  const [dots] = figure.data;
  const taken = [...corners(plot), ...dots.x.map((east, k) =>
    boxOf(xaxis.l2p(east), yaxis.l2p(dots.y[k]), dots.marker.size[k], dots.marker.size[k]))];
  const names = [];
  return (data.map?.named ?? []).filter((n) => x[n] !== null).flatMap((n) => {
    const from = { x: xaxis.l2p(x[n]), y: yaxis.l2p(y[n]) };
    const inside = from.x >= 0 && from.y >= 0 && from.x <= plot.w && from.y <= plot.h;
    const words = short(nameOf(n));
    const place = inside && freePlace(from, wordsWidth(words), plot, taken, names);
    if (!place) return [];
    taken.push(place.box, ...place.line);
    names.push(place.box);
    return [{
      text: escaped(words), x: x[n], y: y[n], ax: place.dx, ay: place.dy, xanchor: "center", yanchor: "middle",
      showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: colour("ink"), font: { size: LABEL_PX, color: colour("ink") },
    }];
  });
}
