// What was measured on what, and how, in plain words.

const METHOD_OURS = [
  ["What is compared", "One comparison is one case: the same computation on the same data by several implementations. What each computes is checked against a reference before it is timed, and again by what the last call of each of its turns returned; one that computes something else, or less, is no contender."],
  ["How it is timed", "With one thread, the contenders of a case take turns within one process, many rounds long, so that what disturbs the machine disturbs all alike. With more threads, each has a process of its own, and the processes take turns: in one process, waiting threads of one would hold the cores of another."],
  ["What a ratio is", "In each round, the other one's time is divided by ours. Quoted is the median of these ratios, with the bounds of a 95% interval found by bootstrap over the rounds. Above 1, ours is faster; where the interval contains 1, nobody is."],
  ["Why ratios", "Times belong to one machine on one day. Ratios measured in one run say more, and are what is kept from commit to commit."],
  ["Roofline", "Peak multiply-adds and memory's bandwidth are measured in the same run. The least time for a case is the longer of its operations at that peak and its bytes at that bandwidth; the part of the roofline is that time over the median."],
  ["Disturbed runs", "A run during which other processes took time, or the frequency drifted, is repeated; if that does not help, its cases are marked as disturbed, and can be left out here."],
];
const METHOD_ANY = [
  ["What is compared", "Results of one group of pytest-benchmark are compared with each other. Where no group is given: functions of one file at equal parameters, or one function's parameters."],
  ["How it is timed", "As pytest-benchmark does: each test by itself, one after the other. Shown are medians; lines at the ends of bars are quartiles."],
  ["What a ratio is", "The median time of one result over that of the one it is compared with: the fastest of its group, or one that you choose."],
];
const METHOD_TIME = [
  ["Where levels change", "A step detector looks at the whole history of each figure and asks where splitting it explains more than noise does. No fixed threshold: what counts as a change depends on how much that figure varies by itself."],
  ["Geometric means", "The mean of ratios is their geometric mean: twice as fast in one case and half as fast in another is no gain."],
];

function about(panel) {
  const prose = el("div", { class: "prose" }, [...(OURS ? METHOD_OURS : METHOD_ANY), ...METHOD_TIME].map(([title, text]) => [el("h3", {}, title), el("p", {}, text)]));
  panel.append(card("How to read this", "", prose));
  for (const run of [...RUNS].reverse().slice(0, 20)) {
    const rows = [["date", run.date.slice(0, 19).replace("T", " ")], ["commit", run.commit], ...run.environment, ...run.commit_info.filter(([name]) => ["branch", "dirty", "project"].includes(name))].filter(([, value]) => value);
    panel.append(card(run.source, `${run.processor || "An unknown processor"}${run.date ? `, ${asDate(run.date)}` : ""}`, table(`What ${run.source} says of its machine`, [
      { title: "What", head: true, text: true, of: (r) => r[0] },
      { title: "Value", text: true, of: (r) => r[1], show: (r) => (r[0] === "commit" ? commitOf(run) : r[1]) },
    ], rows)));
  }
  if (RUNS.length > 20) panel.append(el("p", { class: "soft" }, `${RUNS.length - 20} older files are not described here.`));
  return () => {};
}
function commitOf(run) {
  const link = commitAddress(run);
  return link ? el("a", { href: link, rel: "noreferrer" }, run.commit) : run.commit;
}
