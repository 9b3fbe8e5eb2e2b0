// Elements, numbers as text, tables, controls. Names from files become text nodes, never markup.

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null));
  return node;
}

function significant(value, digits = 3) {
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toFixed(Math.min(places, 12));
}
function scaled(value, units) {
  const [scale, unit] = units.find(([size]) => Math.abs(value) >= size * 0.9995) || units[units.length - 1];
  return `${significant(value / scale)} ${unit}`;
}
const asTime = (s) => scaled(s, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]);
const asRate = (v) => scaled(v, [[1e12, "TFLOP/s"], [1e9, "GFLOP/s"], [1e6, "MFLOP/s"], [1e3, "kFLOP/s"], [1, "FLOP/s"]]);
const asCount = (v) => (v >= 1e15 || v < 1e3 ? significant(v) : scaled(v, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]));
const asPercent = (v) => `${significant(100 * v, v < 0.1 ? 2 : 3)} %`;
const asRatio = (v) => `${significant(v, v < 0.1 || v >= 10 ? 3 : v < 1 ? 2 : 3)}×`;
const asDate = (text) => text.slice(0, 10);
const plural = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function commitAddress(place) {
  if (place.link) return place.link;
  return given.commit_url && place.commit ? given.commit_url.replace("{commit}", encodeURIComponent(place.commit)) : "";
}
const placeName = (place) => (place.commit ? place.commit.slice(0, 8) : place.subject || asDate(place.date));
function commitNode(place) {
  const link = commitAddress(place);
  return link ? el("a", { href: link, rel: "noreferrer" }, placeName(place)) : placeName(place);
}

// columns: {title, text: is it words, of: row -> what it is sorted by, show: row -> node or text, head: is it the row's name}
function table(caption, columns, rows, order) {
  let list = rows;
  const body = el("tbody"), heads = columns.map((column, k) =>
    el("th", { scope: "col", class: column.text ? "text" : null, "aria-sort": "none" },
      el("button", { type: "button", onclick: () => sort(k) }, column.title)));
  function fill() {
    body.replaceChildren(...list.map((row) => el("tr", {}, columns.map((column) => {
      const content = column.show ? column.show(row) : column.of(row);
      return el(column.head ? "th" : "td", { scope: column.head && "row", class: [column.text && "text", column.look && column.look(row)].filter(Boolean).join(" ") || null },
        content === undefined || content === null || content === "" ? "–" : content);
    }))));
  }
  function sort(k) {
    const up = heads[k].getAttribute("aria-sort") !== "ascending", { of } = columns[k];
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== k ? "none" : up ? "ascending" : "descending"));
    const missing = (v) => v === undefined || v === null || v === "";
    list = [...list].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return (up ? 1 : -1) * (typeof x === "string" ? natural(x, y) : x - y);
    });
    fill();
  }
  fill();
  if (order !== undefined) sort(order);
  const whole = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, whole);
}

// The figures behind a chart, made when they are opened.
function behind(title) {
  let make = () => "", stale = true;
  const body = el("div"), node = el("details", { ontoggle: () => build() }, el("summary", {}, title), body);
  function build() {
    if (node.open && stale) body.replaceChildren(make());
    stale = stale && !node.open;
  }
  return { node, open: () => { node.open = true; build(); }, set: (maker, rows) => { make = maker; stale = true; node.dataset.rows = rows; build(); } };
}

// A choice that is part of the state. options: [[value, text], ...]
function choice(name, title, options, long = false) {
  const select = el("select", { name, onchange: () => go({ [name]: select.value, page: DEFAULTS.page }) });
  const node = el("label", { class: long ? "field long" : "field" }, title, select);
  function fill(now) {
    if (JSON.stringify(now) !== node.dataset.options) {
      node.dataset.options = JSON.stringify(now);
      select.replaceChildren(...now.map(([value, text]) => el("option", { value }, text)));
    }
    select.value = state[name];
    node.classList.toggle("hidden", now.length < 2);
  }
  if (options) fill(options);
  return { node, fill, set: (value) => (select.value = value) };
}

function card(title, about, ...children) {
  const words = el("p", {}, about);
  return Object.assign(el("section", { class: "card" }, el("h2", {}, title), words, ...children), { words });
}
