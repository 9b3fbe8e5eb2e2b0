// The cases of a family against all that they were timed beside.

const SORTS = {
  worst: ["Least ahead first", (g) => (g.best || g.others[0] || { value: Infinity }).value],
  best: ["Most ahead first", (g) => -(g.best || g.others[0] || { value: -Infinity }).value],
  name: ["Name", null],
  slow: ["Longest time first", (g) => -g.base.median],
  roofline: ["Least of the roofline first", (g) => g.base.of_roofline || Infinity],
};

function families(panel) {
  const sort = choice("sort", "Order", Object.entries(SORTS).map(([key, [text]]) => [key, text]));
  const chart = el("div", { class: "chart" }), more = behind("These figures as a table");
  const turn = (by) => el("button", { type: "button", class: "quiet", onclick: () => { go({ page: String(page + by) }); whole.scrollIntoView(); } }, by < 0 ? "Previous" : "Next");
  const [back, on, where] = [turn(-1), turn(1), el("span", { role: "status" })];
  const pager = el("div", { class: "pager" }, where, back, on);
  const whole = card("", "", el("div", { class: "controls" }, sort.node), chart, pager, more.node);
  panel.append(whole);
  let page = 1;

  return (groups) => {
    sort.set(state.sort);
    const name = called(), by = (SORTS[state.sort] || SORTS.worst)[1], nameOf = namer(groups);
    const list = groups.filter((g) => g.others.length).sort((a, b) => (by ? by(a) - by(b) : 0) || natural(nameOf(a), nameOf(b)));
    const labels = LABELS.filter((label) => list.some((g) => g.others.some((r) => r.entry.label === label)));
    const size = Math.max(8, Math.min(24, Math.floor((100 * list.length) / list.reduce((sum, g) => sum + g.others.length, 1)))), pages = Math.max(1, Math.ceil(list.length / size));
    page = Math.min(pages, Math.max(1, parseInt(state.page) || 1));
    const rows = list.slice((page - 1) * size, page * size), of = (g, label) => g.others.find((r) => r.entry.label === label);
    whole.firstChild.textContent = state.family || (OURS ? "All families" : "All comparisons");
    whole.words.textContent = state.base === "fastest"
      ? "How many times as long each takes as the fastest of its comparison: bars to the right are slower."
      : `How many times as fast ${name} is as each of the others: right of 1, ${name} is faster. Lines at the ends of bars: ${OURS && state.base === "ours" ? "95% intervals of the ratio where it was measured side by side, else quartiles of the times" : "quartiles of the times"}.`;
    if (rows.some((g) => g.disturbed)) whole.words.textContent += " *: disturbed, not to be trusted.";
    where.textContent = `Cases ${list.length ? (page - 1) * size + 1 : 0} to ${Math.min(page * size, list.length)} of ${list.length}`;
    [back.disabled, on.disabled] = [page <= 1, page >= pages];
    const places = rows.map((g) => (g.disturbed ? "* " : "") + nameOf(g)), series = labels.map((label) => ({ name: label, values: rows.map((g) => of(g, label)) })).filter((s) => s.values.some(Boolean));
    draw(chart, `Bars: ${plural(rows.length, "case")} of ${name} against ${labels.join(", ")}; the table below has the figures`,
      barHeight(places, series),
      (width) => bars(places, series, {
        width, title: state.base === "fastest" ? "times as long as the fastest" : `times as fast (${name})`,
        equal: state.base === "fastest" ? "the fastest" : "equal",
        under: (i) => tip(rows[i].name || places[i], [
          [rows[i].base.label, asTime(rows[i].base.median)],
          ["of the roofline", rows[i].base.of_roofline ? asPercent(rows[i].base.of_roofline) : ""],
          ...rows[i].others.map((r) => [r.entry.label, `${asRatio(r.value)}${interval(r)}, ${asTime(r.entry.median)}`]),
          ["disturbed", rows[i].disturbed],
        ]),
      }),
      rows.length ? "" : "No two results here can be compared: other filters may leave some.");
    more.set(() => table(`Cases against ${name}: ${where.textContent}`, [
      { title: "Case", head: true, text: true, of: nameOf },
      { title: state.base === "fastest" ? "Fastest" : name, of: (g) => g.base.median, show: (g) => (state.base === "fastest" ? `${g.base.label}, ` : "") + asTime(g.base.median) },
      ...(rows.some((g) => g.base.of_roofline) ? [{ title: "Of the roofline", of: (g) => g.base.of_roofline, show: (g) => g.base.of_roofline && asPercent(g.base.of_roofline) }] : []),
      ...series.map((s) => ({
        title: s.name, of: (g) => (of(g, s.name) || {}).value,
        show: (g) => { const r = of(g, s.name); return r && [asRatio(r.value), el("span", { class: "soft" }, interval(r))]; },
        look: (g) => { const r = of(g, s.name); return r && (r.high < 1 ? "bad" : ""); },
      })),
      ...(rows.some((g) => g.disturbed) ? [{ title: "Disturbed", text: true, of: (g) => g.disturbed }] : []),
    ], rows), rows.length);
  };
}
