// The service's reasons, which the documents hold in English, in the reader's language.

const REASONS = [
  [/^(\d+) of (\d+) local days have observations$/, "why.days"],
  [/^(\d+) of (\d+) reference days have observations$/, "why.reference"],
  [/^no observation in the window$/, "why.nothing"],
  [/^no recent observation$/, "why.recent"],
  [/^no forecast in the window$/, "why.forecast"],
  [/^no observation has a truth a horizon later$/, "why.truth"],
  [/^history is shorter than the window$/, "why.history"],
  [/^the snapshot has no stations$/, "why.stations"],
  [/^the snapshot has no weather$/, "why.weather"],
  [/^no station says when it last reported$/, "why.reports"],
  [/^fewer than (\d+) values in a window$/, "why.values"],
  [/^constant in the reference$/, "why.constant"],
  [/^no published forecast could be scored$/, "why.scored"],
];

// Several reasons stand in a line, parted by semicolons, each possibly of a horizon.
function reasonText(reason) {
  return reason.split("; ").map((part) => {
    const [, minutes, said] = /^(?:h(\d+): )?(.*)$/.exec(part);
    const known = REASONS.map(([pattern, key]) => [pattern.exec(said), key]).find(([match]) => match);
    const words = known ? text(known[1], { a: known[0][1], b: known[0][2] })
      : choice.lang === "en" ? said : text("why.other");
    return minutes ? `${text("horizon", { h: minutes })} : ${words}`.replace(" :", choice.lang === "fr" ? "\u00a0:" : ":") : words;
  }).join(choice.lang === "fr" ? "\u00a0; " : "; ");
}
