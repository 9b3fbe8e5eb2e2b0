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
function look(label, among = LABELS) {
  const k = Math.max(0, among.indexOf(label)), colors = COLORS[dark() ? "dark" : "light"];
  const place = OURS || k === 0 ? k : k + 1; // grey is the reference's
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

function powers(v) {
  const size = 2 ** Math.abs(v);
  const text = Number.isInteger(v) ? String(size) : significant(size, 2);
  return v < 0 ? `1/${text}` : `${text}×`;
}

// Bars that begin at 1, on a scale on which half and double are equally far from it. series: [{name, values: [ratio]}]
function bars(places, series, { title, under, names = LABELS, width, equal = "equal" }) {
  const log = (v) => (v > 0 ? Math.log2(v) : null);
  const all = series.flatMap((s) => s.values.filter(Boolean).flatMap((r) => [log(r.low), log(r.high), log(r.value)]));
  const [least, most] = [Math.min(0, ...all), Math.max(0, ...all)];
  const step = [0.125, 0.25, 0.5, 1, 2, 3, 4, 6, 8].find((s) => (most - least) / s <= (width < 600 ? 5 : 9)) || 10;
  const count = series.length, gaps = { barGap: "8%", barCategoryGap: count > 1 ? "28%" : "40%" };
  const room = Math.round(Math.min(width * (width < 600 ? 0.4 : 0.34), 12 + 7 * Math.max(...places.map((p) => p.length))));
  const solid = series.map((s, k) => {
    const style = look(s.name, names);
    return {
      type: "bar", name: s.name, ...gaps, barMaxWidth: 22,
      itemStyle: { color: style.color, decal: style.decal, borderColor: style.color, borderWidth: 1, borderRadius: 2 },
      data: s.values.map((r) => (r ? log(r.value) : null)),
      markLine: k ? undefined : {
        silent: true, symbol: "none", data: [{ xAxis: 0 }], lineStyle: { color: ink("text"), type: "solid", width: 1.5 },
        label: { formatter: equal, color: ink("soft"), position: "end", fontSize: 11 },
      },
    };
  });
  const spread = series.map((s, k) => ({
    type: "custom", name: s.name, silent: true, z: 5, itemStyle: { color: look(s.name, names).color },
    data: s.values.map((r, i) => (r ? [i, log(r.low), log(r.high)] : null)).filter(Boolean),
    encode: { x: [1, 2], y: 0 },
    renderItem: (params, api) => {
      const visible = api.currentSeriesIndices().filter((i) => i < count), place = visible.indexOf(k);
      if (place < 0) return null;
      const at = api.barLayout({ ...gaps, barMaxWidth: 22, count: visible.length })[place];
      const [x1, y0] = api.coord([api.value(1), api.value(0)]), [x2] = api.coord([api.value(2), api.value(0)]), y = y0 + at.offsetCenter;
      if (x2 - x1 < 2) return null;
      const half = Math.min(4, at.width / 3), style = { stroke: ink("text"), lineWidth: 1.2 };
      const stroke = (a, b, c, d) => ({ type: "line", shape: { x1: a, y1: b, x2: c, y2: d }, style });
      return { type: "group", children: [stroke(x1, y, x2, y), stroke(x1, y - half, x1, y + half), stroke(x2, y - half, x2, y + half)] };
    },
  }));
  return {
    legend: legend(series.map((s) => s.name)),
    grid: { left: room + 10, right: 26, top: 52, bottom: 44 },
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, formatter: (p) => under(p[0].dataIndex) },
    xAxis: axis({
      type: "value", name: title, nameLocation: "middle", nameGap: 28, interval: step,
      min: Math.floor(least / step - 1e-9) * step, max: Math.ceil(most / step + 1e-9) * step, axisLabel: { formatter: powers },
    }),
    yAxis: axis({
      type: "category", data: places, inverse: true, axisTick: { show: false }, splitLine: { show: false },
      axisLabel: { width: room, overflow: "truncate", interval: 0, color: ink("text"), hideOverlap: false },
    }),
    series: [...solid, ...spread],
  };
}
const barHeight = (places, count) => () => 104 + places * (14 + Math.min(22, Math.max(9, 22 - 3 * count)) * count);
