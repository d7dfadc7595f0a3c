"""The report's style sheet: one column of cards, for laptop and phone, light and dark."""

CSS = """
:root { color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #1b2330; --soft: #566072; --line: #dde1e7;
  --accent: #e8effd; --blue: #1d4fd7; --amber: #a8530a; --green: #0b7554; --violet: #7a3bd9;
  --pink: #b8266b; --grey: #64707f; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12151b; --card: #1b2029; --ink: #e8ebf0; --soft: #a5afbd; --line: #333b48;
  --accent: #22304d; --blue: #7fa6ff; --amber: #f2ad55; --green: #4fcb9e; --violet: #ba9dff;
  --pink: #ff8dc0; --grey: #97a2b1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 16px 48px; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 4px; }
h3 { font-size: .95rem; margin: 0; }
p { margin: 0 0 12px; max-width: 75ch; }
.soft, .card > p, .intro p { color: var(--soft); font-size: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px; margin-top: 16px; min-width: 0; }
.card > p.verdict { color: var(--ink); font-size: 1.1rem; margin-bottom: 14px; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); }
.grid { margin-top: 16px; } .grid .card { margin: 0; }
.intro { margin-top: 28px; } .card > p:last-child, .intro p { margin-bottom: 0; }
table + p { margin-top: 12px; }
.head { display: flex; justify-content: space-between; gap: 12px; align-items: baseline; }
.head span { color: var(--soft); font-size: .9rem; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; padding: 0;
  margin: 4px 0; font-size: .85rem; color: var(--soft); }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  background: var(--c); margin-right: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 6px; border-bottom: 1px solid var(--line);
  vertical-align: top; font-weight: 400; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .85rem; vertical-align: bottom; }
tr > :first-child { padding-left: 8px; } tr > :last-child { padding-right: 8px; }
tr.over th { padding-top: 16px; font-weight: 650; color: var(--soft); }
h3.over { margin: 18px 0 0; } table + h3 { margin: 26px 0 6px; }
td small { display: block; white-space: nowrap; color: var(--soft); font-size: .78rem; }
tr.own { background: var(--accent); }
tr.own th, tr.own td { font-weight: 650; }
tr.own small { font-weight: 400; }
tr.rule th, tr.rule td { border-bottom: 2px solid var(--grey); }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 6px;
  margin: 8px 0 14px; padding: 10px 12px; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(90px, max-content) 1fr; gap: 3px 18px;
  margin: 8px 0 14px; font-size: .9rem; }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg.narrow { display: none; }
.blue { --c: var(--blue); } .amber { --c: var(--amber); } .green { --c: var(--green); }
.violet { --c: var(--violet); } .pink { --c: var(--pink); } .grey { --c: var(--grey); }
line.rule { stroke: var(--line); stroke-width: 1; }
.tick { fill: var(--soft); }
.thin, .thick { fill: none; stroke: var(--c); stroke-linejoin: round; stroke-linecap: round; }
.thin { stroke-width: 1; opacity: .45; } .thick { stroke-width: 2.2; }
.bar { fill: var(--c); } .hover { fill: transparent; }
.dot { fill: var(--c); stroke: var(--card); stroke-width: 1.5; }
.dot.hollow { fill: var(--card); stroke: var(--c); stroke-width: 2.5; }
.whisker { stroke: var(--c); stroke-width: 1.5; }
.leader { stroke: var(--grey); stroke-width: 1; }
.run { fill: var(--c); opacity: .5; }
.front { fill: none; stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; opacity: .65; }
.below { fill: var(--blue); fill-opacity: .07; }
dl.bars { grid-template-columns: minmax(70px, max-content) 1fr max-content; gap: 5px 10px;
  margin: 10px 0 0; align-items: center; }
dl.bars dt { color: var(--ink); max-width: 9.5em; }
dl.bars dd:nth-of-type(even) { text-align: right; } dl.bars dd.none { color: var(--soft); }
.track { display: block; height: 10px; border-radius: 3px; background: var(--page); }
.track i { display: block; height: 100%; min-width: 2px; border-radius: 3px; background: var(--c); }
.name { fill: var(--ink); font-weight: 600; }
@media (max-width: 720px) { main { padding: 20px 12px 36px; } .card { padding: 14px; }
  svg.wide { display: none; } svg.narrow { display: block; } }
@media (max-width: 960px) {
  table, tbody { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(100px, 1fr));
    gap: 6px 10px; padding: 10px 8px; border-bottom: 1px solid var(--line); }
  tbody tr > th, tbody tr > td { padding: 0 !important; border: 0 !important; text-align: left; }
  tbody th { grid-column: 1 / -1; font-weight: 650; }
  tbody small { white-space: normal; }
  tbody tr.over { padding-top: 16px; }
  td::before { content: attr(data-label); display: block; color: var(--soft); font-size: .75rem;
    font-weight: 400; } }
@media print { .card { break-inside: avoid; } }
"""
