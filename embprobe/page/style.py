"""The page's style sheet, and the little script that sorts its tables."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --soft: #5b626d; --line: #dfe3e8; --back: #fff; --panel: #f4f6f9;
  --link: #2457b8; --mark: #b3541e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #a3acb9; --line: #333a45; --back: #14161a; --panel: #1d2127; --link: #8ab0ff; --mark: #f0935a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 1240px; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--back); overflow-wrap: break-word; }
h1 { font-size: 1.4rem; line-height: 1.2; margin: 0 0 .2rem; } header > p { margin: 0; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; }
p, li { max-width: 48rem; } p { margin: .5rem 0; }
.soft, figcaption, small, caption { color: var(--soft); font-size: .9rem; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: 0 .8rem; padding: 0; margin: .3rem 0 0; list-style: none; font-size: .8rem; }
main > section:first-child > h2 { margin: .6rem 0 .1rem; padding-top: .5rem; font-size: .9rem; color: var(--soft); }
.headline + p { max-width: none; margin: 0; }
.headline { font-size: clamp(1.15rem, 2.2vw, 1.5rem); line-height: 1.3; font-weight: 650; max-width: 68rem; margin: .1rem 0 .3rem;
  text-wrap: pretty; }
.answer { background: var(--panel); border-left: 4px solid var(--link); border-radius: 0 8px 8px 0; padding: .5rem 1.1rem .8rem;
  margin: .8rem 0; max-width: 52rem; }
.answer h3:first-child { margin-top: .5rem; } .answer p { margin: .35rem 0; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
.scroller { position: relative; width: fit-content; max-width: 100%; }
.scroller::after { content: "›"; position: absolute; inset: 1px 1px 1px auto; width: 3.2rem; padding-right: .5rem; opacity: 0;
  border-radius: 0 8px 8px 0; background: linear-gradient(90deg, transparent, var(--back) 85%); color: var(--link);
  font-size: 1.6rem; font-weight: 700; text-align: right; align-content: center; pointer-events: none; transition: opacity .15s; }
.scroller.more::after { opacity: 1; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0; max-width: 100%;
  width: fit-content; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
caption { text-align: left; padding: .5rem .7rem; }
caption span { display: inline-block; position: sticky; left: .7rem; max-width: min(46rem, 86vw); }
.row caption span { max-width: min(28rem, 86vw); }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); font-weight: 400; }
thead th { background: var(--panel); font-weight: 600; vertical-align: bottom; }
tr > :first-child { text-align: left; position: sticky; left: 0; background: var(--back); }
thead tr > :first-child { background: var(--panel); } th.word, td.word { text-align: left; }
.heat th, .heat td { padding: .25rem .4rem; }
.heat thead th:not(:first-child) { writing-mode: vertical-rl; rotate: 180deg; max-height: 7.5rem; overflow: hidden;
  text-overflow: ellipsis; text-align: left; border: 0; }
.heat tr > :first-child { white-space: nowrap; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; }
th button { all: unset; cursor: pointer; font-weight: 600; } .inside > :first-child { padding-left: 2.2rem; }
.inside { font-size: .95em; color: var(--soft); } th button.fold { font-size: .8em; margin-right: .5em; padding: .1em .35em; }
th button.fold::after { content: "▸"; opacity: 1; color: var(--link); font-size: 1.1em; }
th button.fold[aria-expanded=true]::after { content: "▾"; } th button:focus-visible { outline: 2px solid var(--link); }
th button::after { content: " ⇅"; color: var(--soft); font-weight: 400; opacity: .55; font-size: .8em; }
th[aria-sort=ascending] button::after { content: " ▲"; opacity: 1; }
th[aria-sort=descending] button::after { content: " ▼"; opacity: 1; }
.floor th, .floor td { color: var(--soft); font-style: italic; } .floor tr:first-child > * { border-top: 2px solid var(--line); }
.best { font-weight: 700; } td small, th small { font-size: .76rem; font-weight: 400; }
.ringed { outline: 2px solid var(--mark); outline-offset: -2px; font-weight: 700; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(360px, 100%), 1fr)); gap: 1.2rem;
  align-items: start; }
.large { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); }
.row > * { min-width: 0; }
figure { margin: .4rem 0; min-width: 0; } figcaption { margin-top: .3rem; line-height: 1.4; }
img { width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; display: block; }
.sheet { display: flex; gap: .5rem; } .sheet img { flex: 1; min-width: 0; align-self: flex-start; }
.beside { display: flex; flex-direction: column; flex: none; max-width: 5.5rem; font-size: .72rem; color: var(--soft); }
.beside span { flex: 1 1 0; min-height: 0; display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  align-content: center; text-align: right; }
svg { width: 100%; max-width: 500px; height: auto; font: 12px system-ui, sans-serif; display: block; }
svg text { fill: var(--soft); } svg .axis { stroke: var(--line); } svg .name, svg .strong { fill: var(--ink); }
svg .strong { font-weight: 650; } svg .goal { stroke: var(--soft); } svg .control { stroke: var(--soft); fill: none; }
.forest + p, .strips + p { max-width: 780px; font-size: .85rem; } .forest { margin: .6rem 0 .2rem; }
.forest svg { max-width: 780px; }
.forest .on-narrow { display: none; }
.strips { margin: .8rem 0 .2rem; max-width: 780px; }
.strip { display: flex; gap: .6rem; align-items: center; margin: .2rem 0; }
.named { flex: 0 0 8.4rem; font-size: .85rem; color: var(--soft); text-align: right; overflow-wrap: anywhere; }
.halves { flex: 1; min-width: 0; display: flex; flex-wrap: wrap; gap: 2px; }
.halves img { flex: 1 1 300px; min-width: 0; width: 300px;
  border-radius: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; }
.legend span { display: inline-flex; gap: .35rem; align-items: center; }
.legend svg { width: 26px; flex: none; }
code { font-size: .8rem; } pre { overflow-x: auto; background: var(--panel); padding: .8rem; border-radius: 8px;
  max-width: 100%; }
details { margin: .7rem 0; } summary { cursor: pointer; color: var(--link); } dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
@media screen and (min-width: 900px) {
  .pair { display: grid; grid-template-columns: minmax(0, 780px) minmax(270px, 1fr); gap: 1.6rem; align-items: start; }
  .pair .strip { display: block; margin: 0 0 .35rem; } .pair .named { text-align: left; }
  .pair .halves img:nth-child(2) { display: none; } .pair .strips { margin-top: .3rem; }
}
@media (max-width: 760px) {
  .forest .on-wide { display: none; } .forest .on-narrow { display: block; max-width: 560px; }
  nav ul { flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; padding: .2rem; }
  .strip { display: block; margin: .5rem 0; } .named { text-align: left; }
}
@media (max-width: 640px) {
  body { padding-top: 1.2rem; } .wide:not(.heat) tr > :first-child { white-space: normal; min-width: 6.5rem; max-width: 8.5rem; }
  th, td { padding: .35rem .5rem; } .answer { padding: .4rem .8rem .6rem; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --panel: #f4f6f9; --link: #000; --mark: #b3541e; }
  html { font-size: 11px; } body { max-width: none; padding: 0; } nav, a[download], th button::after { display: none; }
  .forest .on-wide { display: block; } .forest .on-narrow, .fold, .scroller::after { display: none; }
  tr.inside { display: table-row; }
  .scroller { width: auto; } .strip { display: flex; }
  .wide { overflow: visible; border: 0; width: auto; } table { font-size: 7.5px; width: 100%; }
  th, td, tr > :first-child { white-space: normal; padding: 2px 3px; position: static; }
  td.word { padding-left: 9px; } td small { display: block; font-size: 6.5px; } thead { display: table-header-group; }
  tr, figure, .answer { break-inside: avoid; }
  h2, h3, caption, summary, p.soft { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8px; } * { print-color-adjust: exact; }
  .row { grid-template-columns: repeat(3, 1fr); } section { break-inside: auto; }
}
"""

SCRIPT = """
for (const button of document.querySelectorAll("thead th button")) button.addEventListener("click", () => {
  const header = button.parentElement, table = header.closest("table"), body = table.tBodies[0];
  const column = header.cellIndex, down = header.getAttribute("aria-sort") === "ascending";
  const key = row => { const cell = row.cells[column];
    return cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : cell.textContent.trim(); };
  const blank = value => value === "–" || value === "";
  const groups = [];
  for (const row of body.rows) row.classList.contains("inside") ? groups.at(-1)[1].push(row) : groups.push([key(row), [row]]);
  groups.sort(([a], [b]) => blank(a) - blank(b) || (down ? -1 : 1) *
    (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...groups.flatMap(([, rows]) => rows));
});
for (const button of document.querySelectorAll("button.fold")) button.addEventListener("click", () => {
  const opened = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", opened);
  for (let row = button.closest("tr").nextElementSibling; row && row.classList.contains("inside"); row = row.nextElementSibling)
    row.hidden = !opened;
});
for (const box of document.querySelectorAll(".wide")) {
  const told = () => box.parentElement.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 4);
  box.addEventListener("scroll", told, { passive: true });
  new ResizeObserver(told).observe(box);
}
"""
