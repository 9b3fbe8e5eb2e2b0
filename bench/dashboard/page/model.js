"use strict";
// What the page was given, the state that its address holds, and what follows from both. Nothing here touches the page.

const given = JSON.parse(document.getElementById("data").textContent);
const OURS = given.ours; // how the implementation is called that is judged; "": nobody's in particular
const RUNS = given.runs; // oldest first

const ENTRIES = (() => {
  const { texts, words, columns } = given.entries;
  return columns.run.map((_, i) => {
    const entry = {};
    for (const name in columns) entry[name] = words.includes(name) ? texts[columns[name][i]] : columns[name][i];
    entry.processor = RUNS[entry.run].processor;
    entry.rate = entry.flops ? entry.flops / entry.median : null;
    entry.intensity = entry.flops && entry.bytes ? entry.flops / entry.bytes : null;
    return entry;
  });
})();

// Of an entry that several files have, the latest.
const LATEST = [...new Map(ENTRIES.map((e) => [[e.processor, e.group, e.label].join("\n"), e])).values()];

const unique = (values) => [...new Set(values)];
const natural = new Intl.Collator("en", { numeric: true }).compare;
const geometric = (values) => Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
const middle = (values) => {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// Implementations in a fixed order, so that each keeps its colour: ours, then by how often they are met.
const LABELS = (() => {
  const counts = new Map();
  for (const e of ENTRIES) counts.set(e.label, (counts.get(e.label) || 0) + 1);
  const kind = new Map(ENTRIES.map((e) => [e.label, { ours: 1, reference: 2, peer: 3, variant: 4 }[e.role] || 5]));
  const rank = (label) => (label === OURS ? 0 : kind.get(label));
  return [...counts.keys()].sort((a, b) => rank(a) - rank(b) || counts.get(b) - counts.get(a) || natural(a, b));
})();

const OWN = ["ours", "variant"]; // what is judged, and what else its project has for the same
const FILTERS = { family: "Family", dtype: "Data type", threads: "Threads", level: "Level", backend: "Backend", size: "Size", processor: "Processor" };
const HISTORY_FILTERS = Object.keys(FILTERS);

// The state: all of it is in the address, so that a link shows what its sender saw.
const DEFAULTS = {
  tab: "overview", q: "", run: "", base: OURS ? "ours" : "fastest", clean: "", sort: "worst", page: "1",
  who: "", operation: "", x: "", y: "rate", case: "", against: "", a: "", b: "",
};
for (const name in FILTERS) DEFAULTS[name] = "";
const PROCESSORS = unique([...RUNS.map((r) => r.processor), ...(given.history ? given.history.processors : [])]);
DEFAULTS.processor = PROCESSORS.length > 1 ? RUNS[RUNS.length - 1].processor : "";

const state = { ...DEFAULTS };
function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const name in DEFAULTS) state[name] = found.has(name) ? found.get(name) : DEFAULTS[name];
}
function address(changes = {}) {
  const next = { ...state, ...changes }, parts = new URLSearchParams({ tab: next.tab });
  for (const name in DEFAULTS) if (name !== "tab" && next[name] !== DEFAULTS[name]) parts.set(name, next[name]);
  return "#" + parts;
}

// A ratio: the time of an entry over that of the one it is compared with; above 1, that one is faster.
function ratioTo(entry, base) {
  const measured = base.role === "ours" && (!base.ratio || Math.abs(base.ratio[0] - 1) < 1e-9); // ratios in the file are to this one
  if (measured && entry.ratio && entry.run === base.run) return { entry, value: entry.ratio[0], low: entry.ratio[1], high: entry.ratio[2], sure: true };
  const by = (time) => (time ? time / base.median : entry.median / base.median);
  return { entry, value: by(entry.median), low: by(entry.q1), high: by(entry.q3), sure: false };
}

function comparison(members, chosen) {
  const ours = members.find((e) => e.role === "ours" && e.label === OURS) || members.find((e) => e.role === "ours")
    || (state.backend ? members.find((e) => e.role === "variant") : undefined);
  const said = (name) => (ours && ours[name]) || (members.find((e) => e[name]) || members[0])[name];
  const group = { name: members[0].group, entries: members, processor: members[0].processor };
  for (const name of ["family", "case", "operation", "dtype", "threads", "level", "size"]) group[name] = said(name);
  group.base =
    chosen === "ours" ? ours
    : chosen === "fastest" ? members.reduce((a, b) => (b.median < a.median ? b : a))
    : members.find((e) => e.label === chosen);
  group.disturbed = members.map((e) => e.disturbed).find(Boolean) || "";
  if (!group.base) return group;
  group.others = members.filter((e) => e !== group.base).map((e) => ratioTo(e, group.base));
  group.reference = group.others.find((r) => r.entry.role === "reference");
  const rivals = group.others.filter((r) => (OURS && chosen === "ours" ? r.entry.role === "peer" : true));
  group.best = rivals.length ? rivals.reduce((a, b) => (b.value < a.value ? b : a)) : undefined;
  return group;
}

// The comparisons that the filters leave.
function shown() {
  const source = state.run === "" ? LATEST : ENTRIES.filter((e) => String(e.run) === state.run);
  const byGroup = new Map();
  for (const entry of source) {
    if (state.backend && OWN.includes(entry.role) && entry.backend !== state.backend) continue;
    const key = entry.processor + "\n" + entry.group;
    if (!byGroup.has(key)) byGroup.set(key, []);
    byGroup.get(key).push(entry);
  }
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean), all = [];
  for (const members of byGroup.values()) {
    const group = comparison(members, state.base);
    if (Object.keys(FILTERS).some((name) => name !== "backend" && state[name] && group[name] !== state[name])) continue;
    if (state.clean && group.disturbed) continue;
    const text = (group.name + " " + group.case + " " + group.family).toLowerCase();
    if (words.every((word) => text.includes(word))) all.push(group);
  }
  const groups = all.filter((group) => group.base);
  return { groups, lacking: all.length - groups.length };
}

// A family in figures; undefined where there is nothing to say.
function score(groups) {
  const mean = (ratios) => (ratios.length ? geometric(ratios) : undefined);
  const best = groups.filter((g) => g.best), roof = groups.filter((g) => g.base.of_roofline);
  return {
    cases: groups.length,
    reference: mean(groups.filter((g) => g.reference).map((g) => g.reference.value)),
    best: mean(best.map((g) => g.best.value)),
    roofline: mean(roof.map((g) => g.base.of_roofline)),
    judged: best.length,
    lost: best.filter((g) => g.best.value < 1).length,
    surely: best.filter((g) => g.best.high < 1).length,
    disturbed: groups.filter((g) => g.disturbed).length,
  };
}

// What a comparison is called among these: what all of them share is left out.
function namer(groups) {
  const differing = ["dtype", "threads", "level"].filter((name) => unique(groups.map((g) => g[name])).length > 1);
  const machines = unique(groups.map((g) => g.processor)).length > 1;
  return (group) => {
    if (!group.case) return group.name || "(no group)";
    const more = differing.map((name) => (name === "threads" ? `${group.threads} thr.` : group[name])).filter(Boolean);
    if (machines) more.push(group.processor);
    return more.length ? `${group.case}, ${more.join(", ")}` : group.case;
  };
}

const called = () => (state.base === "ours" ? (state.backend && state.backend !== "c" ? `${OURS} (${state.backend})` : OURS) : state.base === "fastest" ? "the fastest" : state.base);

const COMMITS = given.history && given.history.places.some((p) => p.commit) ? "commits" : "runs";

// The history is most of the page's data, and packed: it is unpacked when somebody looks at it.
let unpacked;
function historySeries() {
  unpacked ??= (async () => {
    const { packed, texts, step } = given.history;
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const list = JSON.parse(await new Response(plain).text());
    const number = (part) => Math.exp(part / step);
    return list.map((s, i) => {
      const [processor, group, against] = s.words.map((t) => texts[t]);
      const more = Object.fromEntries(Object.entries(s.more).map(([name, t]) => [name, texts[t]]));
      const at = s.at || s.values[0].map((_, k) => k), [mid, below, above] = s.values;
      return {
        i, processor, group, against, ...more, at, steps: s.steps,
        value: mid.map(number), low: mid.map((m, k) => number(m - below[k])), high: mid.map((m, k) => number(m + above[k])),
      };
    });
  })();
  return unpacked;
}
