// The style sheet of the report: system fonts only, light and dark, narrow screens and paper.
#pragma once

namespace parsimony::report {

constexpr const char* page_style = R"css(
:root {
  color-scheme: light dark;
  --ink: #1d2129; --soft: #59616e; --line: #d9dde3; --back: #ffffff; --panel: #f5f6f8;
  --link: #0a58a8; --good: #11692f; --bad: #a8201a; --open: #7a5200;
  --good-back: #e3f4e8; --bad-back: #fce8e6; --open-back: #fbf1dc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ec; --soft: #a3abb8; --line: #3a414c; --back: #15181d; --panel: #1e2229;
    --link: #7db8f5; --good: #7ddb9b; --bad: #ff9d94; --open: #f0c36d;
    --good-back: #15301e; --bad-back: #3b1b19; --open-back: #352a12;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans",
  "Liberation Sans", sans-serif; overflow-wrap: break-word;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
a { color: var(--link); }
p { margin: .5rem 0; }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
figcaption a { white-space: nowrap; }
.counts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.counts li { padding: .5rem 1rem; border-radius: .5rem; }
.counts strong { font-size: 1.5rem; margin-right: .35rem; }
.holds { color: var(--good); background: var(--good-back); }
.fails { color: var(--bad); background: var(--bad-back); }
.open { color: var(--open); background: var(--open-back); }
.verdict { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; font-weight: 600;
  font-size: .875rem; white-space: nowrap; }
nav ul { margin: .3rem 0; padding-left: 1.2rem; columns: 18rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem .45rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; }
tr.group th { padding-top: 1.2rem; font-size: 1rem; }
table.claims td:nth-child(3) { width: 46%; }
.criterion { color: var(--soft); font-size: .85rem; margin-top: .2rem; }
table.pairs { width: auto; }
table.pairs th { font-weight: 500; color: var(--soft); white-space: nowrap; padding-right: 1.5rem; }
table.metrics td, table.metrics th { white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0 2.2rem; }
figure .card { background: #ffffff; border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem; text-align: center; }
figure img { max-width: 100%; height: auto; vertical-align: middle; }
figcaption { margin-top: .6rem; max-width: 52rem; }
figcaption strong { display: block; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
.problems { color: var(--bad); background: var(--bad-back); border-radius: .5rem;
  padding: .7rem 1rem .7rem 2rem; margin: .8rem 0; }
.note { color: var(--open); background: var(--open-back); border-radius: .5rem; padding: .5rem 1rem; }
@media (max-width: 44rem) {
  table.claims thead { display: none; }
  table.claims tr, table.claims td, table.claims tr.group th { display: block; width: auto; }
  table.claims td { border: 0; padding: .1rem 0; }
  table.claims td:nth-child(3) { width: auto; }
  table.claims tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  table.claims td:empty { display: none; }
  table.claims tr.group { border: 0; padding: 0; }
  table.claims td[data-name]::before { content: attr(data-name) ": "; color: var(--soft); }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --link: #000;
    --good: #11692f; --bad: #a8201a; --open: #7a5200; --good-back: #fff; --bad-back: #fff;
    --open-back: #fff; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  figure, table.claims tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
)css";

}  // namespace parsimony::report
