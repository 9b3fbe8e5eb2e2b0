// The page: filters, tabs, the address, light and dark, printing.

const TABS = {
  overview: ["Overview", overview, true],
  families: [OURS ? "Families" : "Comparisons", families, true],
  roofline: ["Roofline", roofline, true],
  sizes: ["Speed by size", sizes, true],
  history: ["History", history, true],
  compare: [`Compare ${COMMITS}`, compared, true],
  about: ["Machine and method", about, false],
};
const MODES = { matches: matchMedia("(prefers-color-scheme: dark)") };
const find = (id) => document.getElementById(id);

function go(changes, replacing = false) {
  const next = address(changes);
  if (next === location.hash) return;
  if (!replacing) {
    location.hash = next; // and its event renders
    return;
  }
  window.history.replaceState(null, "", next);
  render();
}

// Tabs: one is in the order of focus, arrows move between them.
const tabs = {}, panels = {}, updates = {};
for (const [id, [title]] of Object.entries(TABS)) {
  tabs[id] = el("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => go({ tab: id }) }, title);
  panels[id] = el("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, class: "hidden" });
}
find("tabs").append(...Object.values(tabs));
find("panels").append(...Object.values(panels));
find("tabs").addEventListener("keydown", (event) => {
  const ids = Object.keys(TABS), at = ids.indexOf(state.tab);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + ids.length, Home: 0, End: ids.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const id = ids[to % ids.length];
  tabs[id].focus();
  go({ tab: id });
});

// Filters: those that have something to choose.
const filters = {};
const search = el("input", { type: "search", name: "q", placeholder: OURS ? "conv2d 3x3" : "part of a name", autocomplete: "off", spellcheck: "false", oninput: () => go({ q: search.value, page: "1" }, true) });
const clean = el("input", { type: "checkbox", name: "clean", onchange: () => go({ clean: clean.checked ? "1" : "", page: "1" }) });
const bases = choice("base", "Compared with", [...(OURS ? [["ours", OURS]] : []), ["fastest", "the fastest"], ...LABELS.filter((l) => l !== OURS).map((l) => [l, l])]);
const runs = choice("run", "File", [["", "latest of each"], ...RUNS.map((r, i) => [String(i), `${r.source} ${asDate(r.date)}`]).reverse()].slice(RUNS.length > 1 ? 0 : 1));
const reset = el("button", { type: "button", class: "quiet", onclick: () => go(Object.fromEntries(Object.keys(DEFAULTS).filter((n) => n !== "tab").map((n) => [n, DEFAULTS[n]]))) }, "Reset");
for (const name in FILTERS) {
  const values = unique(name === "processor" ? PROCESSORS : name === "backend" ? ENTRIES.filter((e) => OWN.includes(e.role)).map((e) => e.backend) : ENTRIES.map((e) => e[name])).filter(Boolean).sort(natural);
  const text = (v) => (name === "size" ? { call: "call overhead" }[v] || v : v);
  filters[name] = choice(name, FILTERS[name], [["", "all"], ...values.map((v) => [v, text(v)])].slice(values.length > 1 ? 0 : 1));
}
find("filters").append(
  ...["family", "dtype", "threads", "level", "backend", "size", "processor"].map((name) => filters[name].node), runs.node, bases.node,
  el("label", { class: "field long" }, "Search", search),
  ...(ENTRIES.some((e) => e.disturbed) ? [el("label", { class: "tick" }, clean, "Leave out disturbed")] : []), reset);
find("filters").addEventListener("submit", (event) => event.preventDefault());

let turn = 0;
async function render() {
  const mine = ++turn;
  readAddress();
  if (!TABS[state.tab]) state.tab = "overview";
  const { groups, lacking } = shown(), [title, build, filtered] = TABS[state.tab];
  for (const id in TABS) {
    tabs[id].setAttribute("aria-selected", String(id === state.tab));
    tabs[id].tabIndex = id === state.tab ? 0 : -1;
    panels[id].classList.toggle("hidden", id !== state.tab);
  }
  const strip = find("tabs").getBoundingClientRect(), chosen = tabs[state.tab].getBoundingClientRect();
  if (chosen.left < strip.left) find("tabs").scrollLeft -= strip.left - chosen.left + 24;
  if (chosen.right > strip.right) find("tabs").scrollLeft += chosen.right - strip.right + 24;
  for (const name in filters) filters[name].set(state[name]);
  bases.set(state.base);
  runs.set(state.run);
  if (document.activeElement !== search) search.value = state.q;
  clean.checked = Boolean(state.clean);
  find("filters").classList.toggle("hidden", !filtered);
  const timed = ["history", "compare"].includes(state.tab);
  for (const node of [bases.node, runs.node, clean.parentNode]) if (node) node.classList.toggle("off", timed);
  find("count").textContent = !filtered || timed ? "" : `${plural(groups.length, "comparison")}, ${plural(groups.reduce((sum, g) => sum + g.entries.length, 0), "result")}`
    + (lacking ? `; ${plural(lacking, "more has", "more have")} no result of ${called()}` : "");
  document.title = `${title} · ${find("title").textContent}`;
  panels[state.tab].setAttribute("aria-busy", "true");
  updates[state.tab] ??= build(panels[state.tab]);
  try {
    await updates[state.tab](groups);
  } finally {
    if (mine === turn) panels[state.tab].setAttribute("aria-busy", "false");
  }
}

// Light and dark: the system's choice, until the reader makes one.
function dress(theme) {
  document.documentElement.dataset.theme = theme;
  find("theme").textContent = theme === "dark" ? "Light" : "Dark";
  find("theme").setAttribute("aria-label", `${find("theme").textContent} colours`);
}
const remembered = { get: () => { try { return localStorage.getItem("benchmarks-theme"); } catch { return null; } }, set: (t) => { try { localStorage.setItem("benchmarks-theme", t); } catch { /* a file may have no memory */ } } };
const wanted = () => remembered.get() || (MODES.matches.matches ? "dark" : "light");
const repaint = () => charts.forEach((paint, node) => node.clientWidth && paint());
dress(wanted());
MODES.matches.addEventListener("change", () => { dress(wanted()); repaint(); });
find("theme").addEventListener("click", () => {
  const next = dark() ? "light" : "dark";
  remembered.set(next);
  dress(next);
  repaint();
});

// On paper: light, as wide as a page, with the figures behind the charts.
addEventListener("beforeprint", () => {
  dress("light");
  paper = true;
  charts.forEach((paint, node) => node.clientWidth && paint(680));
  panels[state.tab].querySelectorAll("details").forEach((details) => {
    if (Number(details.dataset.rows) > 60) return; // longer ones are printed if the reader has opened them
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
  });
});
addEventListener("afterprint", () => { paper = false; dress(wanted()); repaint(); });

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address holds the state
  find("main").focus();
  find("main").scrollIntoView();
});

const last = RUNS[RUNS.length - 1];
find("title").textContent = OURS ? `${OURS}: benchmarks` : "Benchmarks";
find("subtitle").textContent = [last.processor, last.date && asDate(last.date), last.commit && `commit ${last.commit.slice(0, 8)}`, RUNS.length > 1 && plural(RUNS.length, "file")].filter(Boolean).join(" · ");
addEventListener("hashchange", render);
render().then(() => { document.documentElement.dataset.ready = performance.now().toFixed(0); });
