// Two plots of every entry: against what the machine allows, and by the size of the work.

const whose = (groups) => LABELS.filter((label) => groups.some((g) => g.entries.some((e) => e.label === label)));
function picked(groups) {
  if (state.who === "all") return groups.flatMap((g) => g.entries);
  return state.who ? groups.flatMap((g) => g.entries.filter((e) => e.label === state.who)) : groups.map((g) => g.base);
}
function whoChoice() {
  const node = choice("who", "Points of");
  return { node: node.node, fill: (groups) => node.fill([["", called()], ...whose(groups).map((l) => [l, l]), ["all", "all of them"]]) };
}

// The ceilings that the machine has for these entries, each once.
function ceilings(entries) {
  const found = new Map(), levels = unique(entries.map((e) => e.level).filter(Boolean)).length;
  for (const e of entries) {
    if (!e.peak_flops || !e.bandwidth) continue;
    const words = [e.dtype, e.threads && plural(Number(e.threads), "thread"), levels > 1 && e.level].filter(Boolean);
    const key = [e.processor, e.dtype, e.threads, e.level && e.role === "ours" ? e.level : ""].join("\n");
    const before = found.get(key);
    if (!before || before.run < e.run) found.set(key, { run: e.run, peak: e.peak_flops, bandwidth: e.bandwidth, words: words.join(", ") });
  }
  // Peers say no level; where ours do, theirs is the same ceiling.
  return [...new Map([...found.values()].sort((a, b) => b.peak - a.peak).map((c) => [`${significant(c.peak)} ${significant(c.bandwidth)}`, c])).values()];
}
// What is written at peaks, the highest first; those too close to be told apart share a line.
function peaks(lines) {
  const found = [];
  for (const c of lines) {
    const last = found[found.length - 1];
    if (!last || c.peak < last.peak / 1.3) found.push({ peak: c.peak, words: [c.words], rates: [asRate(c.peak)] });
    else [last.words, last.rates] = [unique([...last.words, c.words]), unique([...last.rates, asRate(c.peak)])];
  }
  return found.map(({ peak, words, rates }) => ({ peak, words: words.join(" / "), rate: rates.join(", ") }));
}
const peakLabel = (width) => ({ position: [-6, -5], align: "right", verticalAlign: "bottom", color: ink("text"), fontSize: width < 600 ? 10 : 11, textBorderColor: ink("card"), textBorderWidth: 3 });
const bound = (e) => (e.peak_flops && e.bandwidth ? (e.intensity * e.bandwidth < e.peak_flops ? "memory" : "arithmetic") : "");
function logAxis({ min, max, formatter, ...more }) {
  const written = [];
  const between = max / min < 2000 && !narrow() ? [1, 2, 5] : [1];
  for (let k = Math.floor(Math.log10(min)); k <= Math.log10(max); k++) written.push(...between.map((v) => v * 10 ** k).filter((v) => v >= min * 0.999 && v <= max * 1.001));
  return axis({ type: "log", min, max, ...more, axisTick: { customValues: written, lineStyle: { color: ink("line") } }, axisLabel: { customValues: written, formatter } });
}
const short = (v) => {
  const [size, unit] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([s]) => v >= s * 0.999) || [1, ""];
  return `${Number((v / size).toPrecision(3))}${unit}`;
};
// The extent of a logarithmic axis: a little more than its values, or whole decades where they are close.
function around(values) {
  const [a, b] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  return b - a > 1.3 ? [10 ** (a - 0.12), 10 ** (b + 0.15)] : [10 ** Math.floor(a - 0.02), 10 ** Math.ceil(b + 0.02)];
}
function entryTip(e, heading) {
  return tip(heading, [
    ["implementation", e.label], ["time", asTime(e.median)], ["rate", e.rate ? asRate(e.rate) : ""],
    ["intensity", e.intensity ? `${significant(e.intensity)} FLOP/byte` : ""],
    ["of the roofline", e.of_roofline ? asPercent(e.of_roofline) : ""], ["bound by", e.intensity ? bound(e) : ""],
    ["disturbed", e.disturbed],
  ]);
}

function roofline(panel) {
  const who = whoChoice(), chart = el("div", { class: "chart" }), more = behind("These figures as a table");
  for (const node of ENTRIES.some((e) => e.intensity) ? [] : [who.node, more.node]) node.classList.add("off");
  panel.append(card("Roofline",
    "Each point is one case: how many operations it does for each byte it moves, and how many a second it reached. The lines are what this machine was measured to allow: the slope is memory's bandwidth, the flat part the peak of multiply-adds. Data that stays in caches can be above the slope.",
    el("div", { class: "controls" }, who.node), chart, more.node));

  return (groups) => {
    who.fill(groups);
    const nameOf = namer(groups), names = new Map(groups.flatMap((g) => g.entries.map((e) => [e, nameOf(g)])));
    const list = picked(groups).filter((e) => e.intensity), labels = LABELS.filter((l) => list.some((e) => e.label === l));
    const lines = ceilings(list);
    draw(chart, `Roofline: ${plural(list.length, "point")}, ${plural(lines.length, "ceiling")}; the table below has the figures`, (w) => (w < 600 ? 420 : 560), (width) => {
      const xs = list.map((e) => e.intensity), ys = [...list.map((e) => e.rate), ...lines.map((c) => c.peak)];
      const [[x1, x2], [y1, y2]] = [around(xs), around(ys)];
      const roof = (c) => {
        const knee = c.peak / c.bandwidth, points = [x1, ...(knee > x1 && knee < x2 ? [knee] : []), x2];
        return points.map((x) => [x, Math.min(c.peak, x * c.bandwidth)]).filter(([, y]) => y >= y1 || points.length < 3);
      };
      const from = (c) => (x1 * c.bandwidth < y1 ? [[y1 / c.bandwidth, y1], ...roof(c)] : roof(c));
      return {
        legend: legend(labels),
        grid: { left: 8, right: 22, top: 62, bottom: 30, containLabel: true },
        tooltip: { trigger: "item", formatter: (p) => (p.data.index === undefined ? tip(p.seriesName, []) : entryTip(list[p.data.index], names.get(list[p.data.index]))) },
        xAxis: logAxis({ min: x1, max: x2, name: "operations per byte (FLOP/byte)", nameLocation: "middle", nameGap: 28, formatter: short }),
        yAxis: logAxis({ min: y1, max: y2, name: "FLOP/s", nameLocation: "end", nameTextStyle: { align: "left", color: ink("soft") }, formatter: short }),
        series: [
          ...lines.map((c, k) => ({
            type: "line", name: `${c.words}: ${asRate(c.peak)}, ${scaled(c.bandwidth, [[1e9, "GB/s"], [1e6, "MB/s"], [1, "B/s"]])}`,
            data: from(c), symbol: "none", lineStyle: { color: ink("text"), width: 1.6, type: DASHES[k % DASHES.length] }, emphasis: { disabled: true }, z: 1,
            markPoint: k ? undefined : {
              silent: true, symbol: "circle", symbolSize: 1, itemStyle: { color: ink("text") }, label: peakLabel(width),
              data: peaks(lines).map((same) => ({ coord: [x2, same.peak], label: { formatter: width < 600 ? same.rate : `${same.words}: ${same.rate}` } })),
            },
          })),
          ...labels.map((label) => {
            const style = look(label);
            return {
              type: "scatter", name: label, symbol: style.symbol, symbolSize: width < 600 ? 7 : 9,
              itemStyle: { color: style.color, opacity: 0.82, borderColor: ink("card"), borderWidth: 1 }, z: 3,
              data: list.flatMap((e, at) => (e.label === label ? [{ value: [e.intensity, e.rate], index: at }] : [])), // the chart copies what it is given
            };
          }),
        ],
      };
    }, list.length ? "" : "These results say no operations and bytes (flops and bytes in extra_info), which a roofline needs.");
    more.set(() => table(`Roofline, ${plural(list.length, "point")}`, [
      { title: "Case", head: true, text: true, of: (e) => names.get(e) },
      { title: "Implementation", text: true, of: (e) => e.label },
      { title: "FLOP/byte", of: (e) => e.intensity, show: (e) => significant(e.intensity) },
      { title: "Rate", of: (e) => e.rate, show: (e) => asRate(e.rate) },
      { title: "Of the roofline", of: (e) => e.of_roofline, show: (e) => e.of_roofline && asPercent(e.of_roofline) },
      { title: "Bound by", text: true, of: bound },
    ], list), list.length);
  };
}

const Y = {
  rate: ["Rate", (e) => e.rate, asRate, "FLOP/s", (v) => short(v)],
  roofline: ["Part of the roofline", (e) => e.of_roofline, asPercent, "of the roofline", (v) => `${Number((100 * v).toPrecision(2))} %`],
  time: ["Time of a call", (e) => e.median, asTime, "time of a call", (v) => asTime(v).replace(/\.?0+(?= )/, "")],
};

function sizes(panel) {
  const operation = choice("operation", "Operation"), across = choice("x", "Against"), up = choice("y", "What");
  const chart = el("div", { class: "chart" }), more = behind("These figures as a table");
  const whole = card("Speed against size", "", el("div", { class: "controls" }, operation.node, across.node, up.node), chart, more.node);
  panel.append(whole);

  return (groups) => {
    const operations = unique(groups.map((g) => g.operation).filter(Boolean)).sort(natural);
    const several = operations.filter((o) => unique(groups.filter((g) => g.operation === o).map((g) => g.case)).length > 1);
    operation.fill([["", "all, " + called() + " only"], ...several.map((o) => [o, o])]);
    const chosen = several.includes(state.operation) ? state.operation : "";
    const inside = chosen ? groups.filter((g) => g.operation === chosen) : groups;
    const all = (chosen || !OURS ? inside.flatMap((g) => g.entries.map((e) => [e, g])) : inside.map((g) => [g.base, g])).map(([e, g]) => ({ e, g }));
    const parameters = unique(all.flatMap(({ e }) => Object.keys(e.parameters || {}))).sort(natural);
    const work = all.some(({ e }) => e.flops), traffic = all.some(({ e }) => e.bytes);
    const sizesOf = [...(work ? [["flops", "operations of a call"]] : []), ...(traffic ? [["bytes", "bytes of a call"]] : []), ...parameters.map((p) => ["param:" + p, p])];
    across.fill(sizesOf);
    const x = (sizesOf.find(([key]) => key === state.x) || sizesOf[0] || ["", ""]);
    across.set(x[0]);
    const at = (e) => (x[0].startsWith("param:") ? (e.parameters || {})[x[0].slice(6)] : e[x[0]]);
    const ways = Object.keys(Y).filter((key) => all.some(({ e }) => Y[key][1](e)));
    up.fill(ways.map((key) => [key, Y[key][0]]));
    const y = ways.includes(state.y) ? state.y : ways[0] || "time";
    up.set(y);
    const [, value, text, unit, tick] = Y[y];
    const nameOf = namer(groups), points = all.filter(({ e }) => at(e) && value(e));
    // One line an implementation, and of one what else differs besides the size. Other projects' lines are the functions
    // whose parameter it is.
    const differing = ["dtype", "threads", "level"].filter((name) => unique(points.map(({ g }) => g[name])).length > 1);
    const owner = (e, g) => (OURS || !parameters.length ? e.label : unique(g.entries.map((o) => at(o))).length > 1 ? g.name.replace(/ \[.*/, "") : e.label);
    const line = ({ e, g }) => [owner(e, g), ...(chosen ? differing.map((name) => (name === "threads" ? plural(Number(g.threads), "thread") : g[name])) : [])].join(", ");
    const byLine = new Map();
    for (const point of points) byLine.set(line(point), [...(byLine.get(line(point)) || []), point]);
    for (const list of byLine.values()) list.sort((a, b) => at(a.e) - at(b.e));
    const owners = unique(points.map(({ e, g }) => owner(e, g)));
    const among = owners.every((o) => LABELS.includes(o)) ? undefined : owners;
    whole.words.textContent = `From the overhead of a call, where work is too little to count, to the machine's peak. ${chosen || !OURS ? "Lines join the sizes of one implementation." : "Choose an operation to see all its implementations."}`;
    const pointTip = ({ e, g }) => entryTip(e, `${nameOf(g)}: ${x[1]} ${asCount(at(e))}`);
    const connected = Boolean(chosen) || !OURS, roofs = y === "rate" ? ceilings(points.map(({ e }) => e)) : [];
    const fastest = Math.min(...points.map(({ e }) => e.median));
    const names = [...byLine.keys()].sort((a, b) => LABELS.indexOf(a.split(", ")[0]) - LABELS.indexOf(b.split(", ")[0]) || natural(a, b));
    draw(chart, `${Y[y][0]} against ${x[1]}: ${plural(points.length, "point")}; the table below has the figures`, (w) => (w < 600 ? 420 : 540), (width) => {
      const [x1, x2] = around(points.map(({ e }) => at(e))), ys = [...points.map(({ e }) => value(e)), ...roofs.map((c) => c.peak)], [y1, y2] = around(ys);
      const helpers = roofs.map((c, k) => ({
        type: "line", name: `peak, ${c.words}`, symbol: "none", data: [[x1, c.peak], [x2, c.peak]], z: 1, lineStyle: { color: ink("text"), width: 1.4, type: DASHES[k % DASHES.length] },
        emphasis: { disabled: true },
        markPoint: k ? undefined : {
          silent: true, symbol: "circle", symbolSize: 1, itemStyle: { color: ink("text") }, label: peakLabel(width),
          data: peaks(roofs).map((same) => ({ coord: [x2, same.peak], label: { formatter: width < 600 ? `peak: ${same.rate}` : `peak, ${same.words}` } })),
        },
      }));
      if (y === "rate" && x[0] === "flops") {
        const [from, to] = [Math.max(x1, y1 * fastest), Math.min(x2, y2 * fastest)];
        helpers.push({
          type: "line", name: `shortest call: ${asTime(fastest)}`, symbol: "none", data: [[from, from / fastest], [to, to / fastest]], z: 1,
          lineStyle: { color: ink("soft"), width: 1.4, type: "dotted" }, emphasis: { disabled: true },
          markPoint: { silent: true, symbol: "circle", symbolSize: 1, data: [{ coord: [from, from / fastest] }], itemStyle: { color: ink("soft") }, label: { formatter: `shortest call: ${asTime(fastest)}`, position: "right", color: ink("soft"), fontSize: 11, distance: 14, textBorderColor: ink("card"), textBorderWidth: 3 } },
        });
      }
      return {
        legend: legend(names),
        grid: { left: 8, right: 24, top: 62, bottom: 30, containLabel: true },
        tooltip: { trigger: "item", formatter: (p) => (p.data.index === undefined ? tip(p.seriesName, []) : pointTip(points[p.data.index])) },
        xAxis: logAxis({ min: x1, max: x2, name: x[1], nameLocation: "middle", nameGap: 28, formatter: short }),
        yAxis: logAxis({ min: y1, max: y2, name: unit, nameLocation: "end", nameTextStyle: { align: "left", color: ink("soft") }, formatter: tick }),
        series: [...helpers, ...names.map((name) => {
          const list = byLine.get(name), style = look(owner(list[0].e, list[0].g), among), variants = names.filter((n) => n.split(", ")[0] === name.split(", ")[0]);
          return {
            type: connected ? "line" : "scatter", name, symbol: style.symbol, symbolSize: 8, z: 3,
            lineStyle: { color: style.color, width: 2, type: DASHES[variants.indexOf(name) % DASHES.length] },
            itemStyle: { color: style.color, borderColor: ink("card"), borderWidth: connected ? 0 : 1, opacity: connected ? 1 : 0.82 },
            data: list.map((point) => ({ value: [at(point.e), value(point.e)], index: points.indexOf(point) })),
          };
        })],
      };
    }, points.length ? "" : "These results say nothing of their size: neither flops and bytes in extra_info nor parameters that are numbers.");
    more.set(() => table(`${Y[y][0]} against ${x[1]}`, [
      { title: "Case", head: true, text: true, of: ({ g }) => nameOf(g) },
      { title: "Implementation", text: true, of: ({ e }) => e.label },
      { title: x[1] || "Size", of: ({ e }) => at(e), show: ({ e }) => asCount(at(e)) },
      { title: Y[y][0], of: ({ e }) => value(e), show: ({ e }) => text(value(e)) },
      ...(y === "time" ? [] : [{ title: "Time", of: ({ e }) => e.median, show: ({ e }) => asTime(e.median) }]),
    ], points, 2), points.length);
  };
}
