// The overview: a score a family.

// Which is the fastest how often, the first of those.
function winner(groups) {
  const counts = new Map();
  for (const g of groups) counts.set(g.base.label, (counts.get(g.base.label) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0];
}

function overview(panel) {
  const scores = el("dl", { class: "scores" }), chart = el("div", { class: "chart" }), more = behind("These figures as a table");
  const whole = card("Families", "", chart, more.node);
  panel.append(scores, whole);
  more.node.open = true;

  return (groups) => {
    const name = called(), reference = (groups.find((g) => g.reference) || {}).reference;
    const peer = OURS && state.base === "ours" ? "best peer" : "next best", referenceName = reference ? reference.entry.label : "reference";
    const total = score(groups), losses = total.judged ? `${total.lost} of ${total.judged}` : "–";
    const wins = state.base === "fastest" && winner(groups);
    const tile = (title, value, note) => el("div", { class: "card score" }, el("dt", {}, title), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note));
    scores.replaceChildren(
      ...(total.reference ? [tile(`Over ${referenceName}`, asRatio(total.reference), "geometric mean over all cases")] : []),
      tile(`Over the ${peer}`, total.best ? asRatio(total.best) : "–", `${name}; geometric mean, the fastest other one in each case`),
      ...(total.roofline ? [tile("Of the roofline", asPercent(total.roofline), "geometric mean of what the machine allows")] : []),
      wins ? tile("Fastest most often", wins[0], `in ${wins[1]} of ${plural(groups.length, "case")}`) : tile("Cases lost", losses, total.surely === total.lost ? "to the fastest other one" : `${total.surely} of them beyond doubt`),
    );
    const families = unique(groups.map((g) => g.family)).sort(natural);
    const rows = families.map((family) => {
      const inside = groups.filter((g) => g.family === family);
      return { family, ...score(inside), wins: winner(inside) };
    });
    whole.words.textContent = `How many times as fast ${name} is: geometric means over a family's cases. Above 1, ${name} is faster.`;
    const exactly = (v) => v && { value: v, low: v, high: v };
    const series = [
      { name: `over ${referenceName}`, values: rows.map((r) => exactly(r.reference)) },
      { name: `over the ${peer}`, values: rows.map((r) => exactly(r.best)) },
    ].filter((s) => s.values.some(Boolean));
    const names = ["", `over ${referenceName}`, `over the ${peer}`]; // grey and a colour
    draw(chart, `Bars: ${rows.map((r) => `${r.family}: ${series.map((s, i) => [s, rows.indexOf(r)]).map(([s, i]) => (s.values[i] ? `${asRatio(s.values[i].value)} ${s.name}` : "")).join(", ")}`).join("; ")}`,
      barHeight(families, series),
      (width) => bars(families, series, {
        width, names: OURS ? names : [`over the ${peer}`], title: `times as fast (${name})`,
        under: (i) => tip(families[i], [
          ...series.map((s) => [s.name, s.values[i] ? asRatio(s.values[i].value) : ""]),
          ["of the roofline", rows[i].roofline ? asPercent(rows[i].roofline) : ""],
          ["cases", String(rows[i].cases)], wins ? ["fastest most often", rows[i].wins[0]] : ["of them lost", rows[i].judged ? String(rows[i].lost) : ""],
        ]),
      }),
      series.length ? "" : "No two results here can be compared: other filters may leave some.");
    const good = (v) => (v === undefined ? "" : v < 1 ? "bad" : "good");
    more.set(() => table(`A score a family, ${name}`, [
      { title: "Family", head: true, text: true, of: (r) => r.family, show: (r) => el("a", { href: address({ tab: "families", family: r.family, page: "1" }) }, r.family || "(none)") },
      { title: "Cases", of: (r) => r.cases },
      ...(total.reference ? [{ title: `Over ${referenceName}`, of: (r) => r.reference, show: (r) => r.reference && asRatio(r.reference), look: (r) => good(r.reference) }] : []),
      { title: `Over the ${peer}`, of: (r) => r.best, show: (r) => r.best && asRatio(r.best), look: (r) => good(r.best) },
      ...(total.roofline ? [{ title: "Of the roofline", of: (r) => r.roofline, show: (r) => r.roofline && asPercent(r.roofline) }] : []),
      wins ? { title: "Fastest most often", text: true, of: (r) => r.wins.join(": ") } : { title: "Lost", of: (r) => (r.judged ? r.lost : undefined), show: (r) => (r.judged ? `${r.lost} of ${r.judged}` : undefined), look: (r) => (r.lost ? "bad" : "") },
      ...(total.disturbed ? [{ title: "Disturbed", of: (r) => r.disturbed }] : []),
    ], rows), rows.length);
  };
}
