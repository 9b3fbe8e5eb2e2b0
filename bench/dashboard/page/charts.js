// What all charts share. Colours are Okabe and Ito's, which colour-blind readers can tell apart; patterns, symbols and
// dashes say the same once more. What is under the pointer is written as text nodes.

const COLORS = {
  light: ["#0072b2", "#8b95a1", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b3a300"],
  dark: ["#4aa8e8", "#9aa5b3", "#f0b429", "#2cc79b", "#f07f3c", "#e29bc4", "#9ad4f7", "#f0e442"],
};
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "circle"];
const DASHES = ["solid", [7, 4], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4], [1, 5], [6, 2, 2, 2]];
const line = (degrees, x, y) => ({ dashArrayX: x, dashArrayY: y, rotation: (degrees * Math.PI) / 180, symbol: "rect", symbolSize: 1 });
const DECALS = [
  null, null, line(-45, [1, 0], [2, 5]), line(45, [1, 0], [2, 5]), { symbol: "circle", symbolSize: 0.7, dashArrayX: [[6, 6], [0, 6, 6, 0]], dashArrayY: [6, 0] },
  line(90, [1, 0], [2, 4]), line(0, [1, 0], [2, 4]), line(-20, [1, 0], [3, 3]),
];

const dark = () => document.documentElement.dataset.theme === "dark";
const narrow = () => document.documentElement.clientWidth < 700;
function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Which colour each implementation has, on every chart: the first is ours, grey the reference's.
const GREY = 1;
const PLACE = (() => {
  const references = new Set(ENTRIES.filter((e) => e.role === "reference").map((e) => e.label)), found = new Map();
  let next = OURS ? 2 : 0;
  for (const label of LABELS) {
    if (label === OURS) found.set(label, 0);
    else if (references.has(label)) found.set(label, GREY);
    else {
      while (next % COLORS.light.length === GREY || (OURS && next % COLORS.light.length === 0)) next += 1;
      found.set(label, next++);
    }
  }
  return found;
})();
// names: of other things than implementations, in the order of their colours.
function look(label, names) {
  const place = Math.max(0, names ? names.indexOf(label) : PLACE.get(label) ?? 0), colors = COLORS[dark() ? "dark" : "light"];
  const at = place % colors.length, decal = DECALS[(at + (place >= colors.length ? 3 : 0)) % DECALS.length];
  return {
    color: colors[at], symbol: SYMBOLS[at], dash: DASHES[at],
    decal: decal ? { ...decal, color: dark() ? "rgba(0,0,0,0.45)" : "rgba(255,255,255,0.75)" } : { symbol: "none" },
  };
}

const charts = new Map();
const resized = new ResizeObserver((list) => {
  for (const { target } of list) {
    const chart = echarts.getInstanceByDom(target);
    if (chart && target.clientWidth && Math.abs(chart.getWidth() - target.clientWidth) > 1) (charts.get(target) || chart.resize)();
  }
});

// Draw into a place; make is called again when its width has changed. Without anything to draw, words say so.
function draw(node, words, height, make, empty = "") {
  const chart = echarts.getInstanceByDom(node);
  if (empty) {
    if (chart) chart.dispose();
    charts.delete(node);
    resized.unobserve(node);
    node.removeAttribute("style");
    node.removeAttribute("role");
    node.removeAttribute("aria-label");
    node.replaceChildren(el("p", { class: "empty" }, empty));
    return;
  }
  function paint(width) {
    let drawn = echarts.getInstanceByDom(node);
    if (!drawn) node.replaceChildren();
    const tall = height(node.clientWidth);
    node.style.height = `${tall}px`;
    drawn = drawn || echarts.init(node, null, { renderer: "svg" });
    drawn.resize({ width: typeof width === "number" ? width : "auto", height: tall });
    const base = {
      animation: false,
      textStyle: { fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", color: ink("text") },
      aria: { enabled: false },
      tooltip: {
        confine: true, backgroundColor: ink("card"), borderColor: ink("line"), textStyle: { color: ink("text") },
        padding: [8, 12], extraCssText: "box-shadow: 0 4px 20px rgb(0 0 0 / 18%); border-radius: 8px;",
      },
    };
    const option = make(drawn.getWidth());
    drawn.setOption({ ...base, ...option, tooltip: { ...base.tooltip, ...option.tooltip } }, { notMerge: true });
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", words);
  }
  charts.set(node, paint);
  paint();
  resized.observe(node);
}

const legend = (names) => ({
  type: "scroll", top: 0, left: 0, right: 0, itemWidth: 18, itemHeight: 12, data: names,
  textStyle: { color: ink("text") }, inactiveColor: ink("line"),
  pageTextStyle: { color: ink("soft") }, pageIconColor: ink("accent"), pageIconInactiveColor: ink("line"),
});
const axis = (more) => ({
  nameTextStyle: { color: ink("soft") },
  axisLine: { show: true, lineStyle: { color: ink("line") } },
  axisTick: { lineStyle: { color: ink("line") } },
  splitLine: { lineStyle: { color: ink("grid") } },
  minorSplitLine: { show: false },
  ...more,
  axisLabel: { color: ink("soft"), hideOverlap: true, ...more.axisLabel },
});

// Under the pointer: a heading, and rows of two.
function tip(heading, rows) {
  const lines = rows.filter((row) => row[1] !== undefined && row[1] !== "");
  return el("div", { class: "tip" }, el("strong", {}, heading), lines.map(([a, b]) => el("div", {}, el("span", { class: "soft" }, a), el("span", {}, b))));
}
const interval = (r) => (Math.abs(r.high / r.low - 1) < 1e-9 ? "" : ` (${significant(r.low)} to ${significant(r.high)})`);

// Ratios to write at an axis of logarithms from a to b: the finest of these sets that is not too many. Under 1, one over them.
const ROUND = [
  ...[0.01, 0.02, 0.05, 0.1, 0.2].map((step) => [...Array(9).keys()].map((k) => 1 + (k + 1) * step)),
  [1.25, 1.5, 2, 2.5, 3, 4], [1.5, 2, 3, 4, 6, 8], ...[[2, 4, 8], [2, 5, 10], [10]].map((first) => [...Array(8).keys()].flatMap((k) => first.map((v) => v * Math.max(...first) ** k))),
];
function ticks(a, b, most) {
  const inside = (set) => [...set.map((v) => -Math.log2(v)).reverse(), 0, ...set.map((v) => Math.log2(v))].filter((v) => v >= a && v <= b);
  const enough = (set) => Math.log2(set[set.length - 1]) >= Math.max(-a, b) * 0.8;
  return inside(ROUND.find((set) => enough(set) && inside(set).length <= most) || ROUND[ROUND.length - 1]);
}
function powers(v) {
  const text = String(Number((2 ** Math.abs(v)).toPrecision(3)));
  return v < -1e-9 ? `1/${text}` : `${text}×`;
}

// Bars that begin at 1, on a scale on which half and double are equally far from it. series: [{name, values: [ratio]}]
// Each bar has a row of its own, so that what a place lacks takes none; rows without a bar are between places, and on
// narrow screens have their names.
const SHEET = 640; // on paper, a chart and what is said of it share a page
let paper = false;
function rowsOf(places, series, above) {
  const most = Math.max(1, ...places.map((_, i) => series.filter((s) => s.values[i]).length));
  const rows = [], height = above ? 11 : most === 1 ? 12 : Math.max(10, 22 - 3 * most);
  places.forEach((_, i) => {
    if (above) rows.push({ i }, { i, named: true });
    const bars = series.map((s, k) => k).filter((k) => series[k].values[i]), first = rows.length;
    rows.push(...bars.map((k) => ({ i, k })), { i });
    if (!above) rows[first + Math.floor((bars.length - 1) / 2)].named = true;
  });
  return { rows, height: paper ? Math.min(height, (SHEET - 100) / rows.length) : height };
}
function barHeight(places, series) {
  return (width) => {
    const { rows, height } = rowsOf(places, series, width < 600);
    return 100 + Math.round(rows.length * height);
  };
}
function bars(places, series, { title, under, names, width, equal = "equal" }) {
  const log = (v) => (v > 0 ? Math.log2(v) : null), above = width < 600, { rows, height } = rowsOf(places, series, above);
  const room = above ? width - 40 : Math.round(Math.min(width * 0.34, 12 + 7 * Math.max(...places.map((p) => p.length))));
  const all = series.flatMap((s) => s.values.filter(Boolean).flatMap((r) => [log(r.low), log(r.high), log(r.value)]));
  const extent = [Math.min(0, ...all), Math.max(0, ...all)], margin = Math.max(0.02, 0.04 * (extent[1] - extent[0]));
  const [least, most] = [extent[0] - (extent[0] < 0 ? margin : 0), extent[1] + margin], written = ticks(least, most, above ? 5 : 9);
  const solid = series.map((s, k) => {
    const style = look(s.name, names);
    return {
      type: "bar", name: s.name, stack: "rows", barWidth: height * 0.86,
      itemStyle: { color: style.color, decal: style.decal, borderColor: style.color, borderWidth: 1, borderRadius: 2 },
      data: rows.map((row) => (row.k === k ? log(s.values[row.i].value) : null)),
      markLine: k ? undefined : {
        silent: true, symbol: "none", data: [{ xAxis: 0 }], lineStyle: { color: ink("text"), type: "solid", width: 1.5 },
        label: { formatter: equal, color: ink("soft"), position: "start", fontSize: 11 },
      },
    };
  });
  const spread = series.map((s, k) => ({
    type: "custom", name: s.name, silent: true, z: 5, itemStyle: { color: look(s.name, names).color }, encode: { x: [1, 2], y: 0 },
    data: rows.flatMap((row, at) => (row.k === k ? [[at, log(s.values[row.i].low), log(s.values[row.i].high)]] : [])),
    renderItem: (params, api) => {
      const [x1, y] = api.coord([api.value(1), api.value(0)]), [x2] = api.coord([api.value(2), api.value(0)]);
      if (x2 - x1 < 2) return null;
      const half = Math.min(4, height / 3), style = { stroke: ink("text"), lineWidth: 1.2 };
      const stroke = (a, b, c, d) => ({ type: "line", shape: { x1: a, y1: b, x2: c, y2: d }, style });
      return { type: "group", children: [stroke(x1, y, x2, y), stroke(x1, y - half, x1, y + half), stroke(x2, y - half, x2, y + half)] };
    },
  }));
  return {
    legend: legend(series.map((s) => s.name)),
    grid: { left: above ? 14 : room + 10, right: above ? 14 : 26, top: 52, bottom: 44 },
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, formatter: (p) => under(rows[p[0].dataIndex].i) },
    xAxis: axis({
      type: "value", name: title, nameLocation: "middle", nameGap: 28, min: least, max: most,
      axisTick: { customValues: written, lineStyle: { color: ink("line") } }, axisLabel: { customValues: written, formatter: powers },
    }),
    yAxis: axis({
      type: "category", z: 6, data: rows.map((row) => places[row.i]), inverse: true, axisTick: { show: false }, splitLine: { show: false },
      axisLabel: {
        formatter: (text, at) => (rows[at].named ? text : ""), width: room, overflow: "truncate", interval: 0, color: ink("text"), hideOverlap: false,
        fontSize: paper ? 10 : 12, textBorderColor: ink("card"), textBorderWidth: 3, ...(above ? { inside: true, margin: -8, align: "left" } : {}),
      },
    }),
    series: [...solid, ...spread],
  };
}
