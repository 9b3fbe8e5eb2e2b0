// By commit: each ratio over time with the places where its level changed, and two commits beside each other.

const PLACES = given.history ? given.history.places : []; // oldest first
const OVER_TIME = given.history && given.history.kind === "time"; // other projects' files: times, not ratios
const NONE = "There is one commit or date in these files; a history needs two. Give several files, or --history.";
const asValue = (v) => (OVER_TIME ? asTime(v) : asRatio(v));
const gain = (from, to) => (OVER_TIME ? from / to : to / from); // above 1: better

// A history's group may be among the results, which then say how it is called.
const KNOWN = new Map(LATEST.map((e) => [e.group, e.case]));
function followed(series) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return series.filter((s) => HISTORY_FILTERS.every((name) => !state[name] || s[name] === state[name])
    && words.every((word) => `${s.group} ${KNOWN.get(s.group) || ""} ${s.family}`.toLowerCase().includes(word)));
}
const followedName = (s) => (s.group || "(no group)") + (PROCESSORS.length > 1 && !state.processor ? `, ${s.processor}` : "");

// The levels between the steps of a series: [first, past last, median].
const levels = (s) => [0, ...s.steps].map((from, k) => [from, s.steps[k] ?? s.value.length]).map(([from, to]) => [from, to, middle(s.value.slice(from, to))]);
function changes(series) {
  return series.flatMap((s) => {
    const found = levels(s);
    return s.steps.map((at, k) => ({ s, at: s.at[at], before: found[k][2], after: found[k + 1][2], gain: gain(found[k][2], found[k + 1][2]) }));
  }).sort((a, b) => Math.abs(Math.log(b.gain)) - Math.abs(Math.log(a.gain)));
}
const asChange = (g) => { const p = 100 * Math.abs(g - 1), text = p.toFixed(p < 9.95 ? 1 : 0); return `${Number(text) ? (g > 1 ? "+" : "−") : ""}${text} %`; };
const changeLook = (g) => (g > 1.005 ? "good" : g < 0.995 ? "bad" : "");

function history(panel) {
  const which = choice("case", "Case", undefined, true), against = choice("against", OVER_TIME ? "Of" : "Ratio to");
  const chart = el("div", { class: "chart" }), more = behind("This history as a table"), list = el("div");
  const one = card("History", "", el("div", { class: "controls" }, which.node, against.node), chart, more.node);
  const all = card("Where levels changed", "", list);
  panel.append(one, all);

  return async () => {
    if (!PLACES.length) {
      one.words.textContent = "";
      all.classList.add("hidden");
      more.node.classList.add("hidden");
      draw(chart, "", null, null, NONE);
      return;
    }
    const series = followed(await historySeries()), found = changes(series);
    const groups = unique(series.map((s) => s.group)).sort(natural);
    which.fill(groups.map((g) => [g, g || "(no group)"]));
    const group = groups.includes(state.case) ? state.case : found.length ? found[0].s.group : groups[0];
    which.set(group);
    const inside = series.filter((s) => s.group === group), names = unique(inside.map((s) => s.against));
    against.fill(names.map((n) => [n, n]));
    const other = names.includes(state.against) ? state.against : (found.find((c) => c.s.group === group) || { s: inside[0] || {} }).s.against;
    against.set(other);
    const s = inside.find((each) => each.against === other);
    one.words.textContent = OVER_TIME
      ? "The median time at each commit or file; the band is its quartiles. Times of different machines or days do not compare well."
      : `How many times as fast ${OURS || "it"} is at each commit; the band is the 95% interval. Heavy lines are levels, diamonds the commits at which a new one begins.`;
    const points = s && s.at.map((at, k) => ({ at, place: PLACES[at], value: s.value[k], low: s.low[k], high: s.high[k], step: s.steps.includes(k) }));
    draw(chart, s && `History of ${group} against ${other}: ${plural(points.length, "point")}, ${plural(s.steps.length, "change")}; the table below has the figures`, (w) => (w < 600 ? 340 : 420), (width) => {
      const style = look("", [""]), pad = 0.06 * (Math.max(...s.high) - Math.min(...s.low)) || 0.05 * s.value[0], mark = COLORS[dark() ? "dark" : "light"][4];
      const flat = levels(s).map(([from, to, level], k) => ({
        type: "line", name: "level", symbol: "none", silent: true, z: 4, itemStyle: { color: ink("text") }, lineStyle: { color: ink("text"), width: 2.5 }, emphasis: { disabled: true },
        data: [[s.at[from], level], [s.at[to - 1], level]],
      }));
      return {
        legend: legend([OVER_TIME ? "median time" : `ratio to ${other}`, "level", "new level begins"]),
        grid: { left: 8, right: 40, top: 40, bottom: 30, containLabel: true },
        tooltip: {
          trigger: "axis", axisPointer: { type: "line", lineStyle: { color: ink("soft") } },
          formatter: (p) => {
            const point = points.find((each) => each.at === Math.round(p[0].axisValue));
            if (!point) return "";
            return tip(`${placeName(point.place)} ${point.place.commit ? point.place.subject : ""}`, [
              ["date", asDate(point.place.date)], [OVER_TIME ? "time" : `ratio to ${other}`, asValue(point.value)],
              ["interval", `${asValue(point.low)} to ${asValue(point.high)}`], ["", point.step ? "a new level begins" : ""],
            ]);
          },
        },
        xAxis: axis({
          type: "value", min: 0, max: Math.max(1, PLACES.length - 1), minInterval: 1, name: `${COMMITS}, oldest first`, nameLocation: "middle", nameGap: 28, splitLine: { show: false },
          axisLabel: { formatter: (v) => (PLACES[v] ? placeName(PLACES[v]).slice(0, 14) : "") }, splitNumber: width < 600 ? 3 : 8,
          axisPointer: { snap: true, label: { show: false } },
        }),
        yAxis: axis({ type: "value", scale: true, min: Math.min(...s.low) - pad, max: Math.max(...s.high) + pad, axisLabel: { showMinLabel: false, showMaxLabel: false, formatter: (v) => (v > 0 ? asValue(v) : "") } }),
        series: [
          {
            type: "custom", name: "interval", silent: true, z: 1, data: [[0, 0]], encode: { x: -1, y: -1 },
            renderItem: (params, api) => ({
              type: "polygon", silent: true, style: { fill: style.color, opacity: 0.16 },
              shape: { points: [...points.map((p) => api.coord([p.at, p.high])), ...[...points].reverse().map((p) => api.coord([p.at, p.low]))] },
            }),
          },
          {
            type: "line", name: OVER_TIME ? "median time" : `ratio to ${other}`, symbol: "circle", symbolSize: points.length > 80 ? 4 : 7, z: 3,
            lineStyle: { color: style.color, width: 1.2 }, itemStyle: { color: style.color }, data: points.map((p) => [p.at, p.value]),
          },
          ...flat,
          {
            type: "scatter", name: "new level begins", symbol: "diamond", symbolSize: 15, z: 6, itemStyle: { color: mark, borderColor: ink("card"), borderWidth: 1.5 },
            data: points.filter((p) => p.step).map((p) => [p.at, p.value]),
            markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: mark, type: "dashed", width: 1.2 }, data: points.filter((p) => p.step).map((p) => ({ xAxis: p.at })) },
          },
        ],
      };
    }, s ? "" : "No history is left by these filters.");
    more.node.classList.toggle("hidden", !s);
    more.set(() => table(`${group} against ${other}, latest first`, [
      { title: COMMITS === "commits" ? "Commit" : "Run", head: true, text: true, of: (p) => p.at, show: (p) => commitNode(p.place) },
      { title: "Date", text: true, of: (p) => p.place.date, show: (p) => asDate(p.place.date) },
      { title: "Subject", text: true, of: (p) => p.place.subject },
      { title: OVER_TIME ? "Time" : "Ratio", of: (p) => p.value, show: (p) => asValue(p.value) },
      { title: "From", of: (p) => p.low, show: (p) => asValue(p.low) },
      { title: "To", of: (p) => p.high, show: (p) => asValue(p.high) },
      { title: "Level", text: true, of: (p) => (p.step ? "a new one" : "") },
    ], [...points].reverse()), points && points.length);
    const most = 100, better = found.filter((c) => c.gain > 1).length;
    all.classList.remove("hidden");
    all.words.textContent = found.length
      ? `${plural(found.length, "change")} in ${plural(series.length, "history", "histories")}: ${better} for the better, ${found.length - better} for the worse${found.length > most ? `; the ${most} largest` : ""}.`
      : `No change of level in ${plural(series.length, "history", "histories")}.`;
    list.replaceChildren(found.length ? table("Changes of level, largest first", [
      { title: "Case", head: true, text: true, of: (c) => followedName(c.s), show: (c) => el("a", { href: address({ case: c.s.group, against: c.s.against, processor: PROCESSORS.length > 1 ? c.s.processor : "" }), onclick: () => one.scrollIntoView() }, followedName(c.s)) },
      { title: OVER_TIME ? "Of" : "Ratio to", text: true, of: (c) => c.s.against },
      { title: "Commit", text: true, of: (c) => c.at, show: (c) => [commitNode(PLACES[c.at]), el("span", { class: "soft" }, ` ${PLACES[c.at].commit ? PLACES[c.at].subject : ""}`)] },
      { title: "Date", text: true, of: (c) => PLACES[c.at].date, show: (c) => asDate(PLACES[c.at].date) },
      { title: "Before", of: (c) => c.before, show: (c) => asValue(c.before) },
      { title: "After", of: (c) => c.after, show: (c) => asValue(c.after) },
      { title: "Faster by", of: (c) => c.gain, show: (c) => asChange(c.gain), look: (c) => changeLook(c.gain) },
    ], found.slice(0, most)) : "");
  };
}

function compared(panel) {
  const a = choice("a", "From", undefined, true), b = choice("b", "To", undefined, true);
  const chart = el("div", { class: "chart" }), more = behind("All cases as a table"), families = el("div");
  const one = card(`Two ${COMMITS}`, "", el("div", { class: "controls" }, a.node, b.node), chart, more.node), two = card("By family", "", families);
  panel.append(one, two);

  return async () => {
    if (!PLACES.length) {
      two.classList.add("hidden");
      more.node.classList.add("hidden");
      draw(chart, "", null, null, NONE);
      return;
    }
    const whole = (p) => [p.commit, p.date, p.subject].join(" "), twice = (p) => PLACES.some((q) => q !== p && q.commit === p.commit);
    const key = (p) => (twice(p) ? whole(p) : p.commit);
    const options = PLACES.map((p) => [key(p), [placeName(p), asDate(p.date), p.commit && !twice(p) ? p.subject : "", twice(p) ? p.date.slice(11, 19) : ""].filter(Boolean).join("  ")]).reverse();
    a.fill(options);
    b.fill(options);
    const find = (text, otherwise) => { const i = PLACES.findIndex((p) => key(p) === text); return text && i >= 0 ? i : otherwise; };
    const series = followed(await historySeries());
    // Unless two are chosen, the last two that have anything in common.
    const last = series.filter((s) => s.at.length > 1).map((s) => s.at.slice(-2)).sort((x, y) => y[1] - x[1] || y[0] - x[0])[0];
    const from = find(state.a, last ? last[0] : PLACES.length - 2), to = find(state.b, last ? last[1] : PLACES.length - 1);
    a.set(key(PLACES[from]));
    b.set(key(PLACES[to]));
    const rows = series.flatMap((s) => {
      const [i, j] = [s.at.indexOf(from), s.at.indexOf(to)];
      if (i < 0 || j < 0) return [];
      const apart = s.low[i] > s.high[j] || s.low[j] > s.high[i], g = gain(s.value[i], s.value[j]);
      const bounds = OVER_TIME ? [s.low[i] / s.high[j], s.high[i] / s.low[j]] : [s.low[j] / s.high[i], s.high[j] / s.low[i]];
      return [{ s, before: s.value[i], after: s.value[j], gain: g, low: Math.min(g, bounds[0]), high: Math.max(g, bounds[1]), apart }];
    }).sort((x, y) => Math.abs(Math.log(y.gain)) - Math.abs(Math.log(x.gain)));
    const sure = rows.filter((r) => r.apart);
    one.words.replaceChildren(...[
      `${OVER_TIME ? "Times" : "Ratios"} of `, commitNode(PLACES[to]), " beside those of ", commitNode(PLACES[from]),
      `: ${plural(rows.length, "figure")} in both; in ${sure.length} the intervals do not meet (${sure.filter((r) => r.gain > 1).length} faster, ${sure.filter((r) => r.gain < 1).length} slower). The largest changes:`,
    ]);
    const top = rows.slice(0, 20), label = (r) => `${followedName(r.s)}${OVER_TIME && r.s.against === r.s.group ? "" : `: ${r.s.against}`}`;
    const both = [{ name: "faster", values: top.map((r) => (r.gain >= 1 ? { value: r.gain, low: r.low, high: r.high } : null)) }, { name: "slower", values: top.map((r) => (r.gain < 1 ? { value: r.gain, low: r.low, high: r.high } : null)) }];
    draw(chart, `Bars: the ${top.length} largest changes; the table below has all`, barHeight(top, both), (width) => bars(top.map(label), both, {
      width, names: ["faster", "", "", "", "slower"], title: "times as fast as before", equal: "as before",
      under: (i) => tip(label(top[i]), [["before", asValue(top[i].before)], ["after", asValue(top[i].after)], ["faster by", asChange(top[i].gain)], ["intervals", top[i].apart ? "do not meet" : "meet"]]),
    }), top.length ? "" : "Nothing was measured at both of them, on one kind of processor, under these filters.");
    const columns = [
      { title: "Before", of: (r) => r.before, show: (r) => asValue(r.before) }, { title: "After", of: (r) => r.after, show: (r) => asValue(r.after) },
      { title: "Faster by", of: (r) => r.gain, show: (r) => asChange(r.gain), look: (r) => (r.apart ? changeLook(r.gain) : "") },
      { title: "Intervals", text: true, of: (r) => (r.apart ? "do not meet" : "meet") },
    ];
    more.node.classList.toggle("hidden", !rows.length);
    more.set(() => table("All figures, largest change first", [
      { title: "Case", head: true, text: true, of: (r) => followedName(r.s) }, { title: OVER_TIME ? "Of" : "Ratio to", text: true, of: (r) => r.s.against }, ...columns,
    ], rows), rows.length);
    two.classList.toggle("hidden", !rows.length);
    two.words.textContent = "Geometric means of the changes.";
    families.replaceChildren(table("Changes by family", [
      { title: "Family", head: true, text: true, of: (r) => r.family },
      { title: "Figures", of: (r) => r.rows.length },
      { title: "Faster by", of: (r) => r.gain, show: (r) => asChange(r.gain), look: (r) => changeLook(r.gain) },
      { title: "Surely faster", of: (r) => r.rows.filter((x) => x.apart && x.gain > 1).length },
      { title: "Surely slower", of: (r) => r.rows.filter((x) => x.apart && x.gain < 1).length },
    ], unique(rows.map((r) => r.s.family)).sort(natural).map((family) => {
      const inside = rows.filter((r) => r.s.family === family);
      return { family, rows: inside, gain: geometric(inside.map((r) => r.gain)) };
    })));
  };
}
