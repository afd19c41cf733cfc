/** The stylesheet of every page. It loads no fonts and no images. */
export const css = `
:root {
  --paper: #f8f2e6; --ink: #2b211a; --quiet: #685a4c; --line: #ddd0b8; --accent: #8c2a1c; --dim: none; --edge: #0000;
  --serif: Charter, "Bitstream Charter", "Sitka Text", Georgia, "Noto Serif", serif;
  --sans: -apple-system, "Segoe UI", Roboto, "Noto Sans", system-ui, sans-serif;
  --small: clamp(.9rem, .87rem + .15vi, 1rem);
  --large: clamp(1.3rem, 1rem + 1.5vi, 2.2rem);
  --huge: clamp(1.9rem, 1.4rem + 2.4vi, 3.25rem);
  --cover: clamp(min(6.5rem, 32.5vi), 4rem + 12vi, 12.5rem);
  --gap: clamp(1.1rem, .5rem + 3vi, 2.75rem);
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #1c1714; --ink: #ede3d4; --quiet: #b5a794; --line: #41372e; --accent: #eba27e;
    --dim: brightness(.85) saturate(.9); --edge: #fff2;
  }
}

* { box-sizing: border-box; margin: 0; }
html { text-size-adjust: 100%; -webkit-text-size-adjust: 100%; }
body {
  max-inline-size: 62rem; margin-inline: auto; padding-inline: clamp(1rem, 4vi, 2.5rem);
  background: var(--paper); color: var(--ink);
  font: clamp(1rem, .95rem + .25vi, 1.125rem)/1.6 var(--sans);
  overflow-wrap: anywhere;
}
a { color: var(--accent); text-underline-offset: .2em; text-decoration-thickness: from-font; }
a:hover { text-decoration-thickness: .15em; }
/* keep the focus outline visible at the viewport edge */
:focus-visible { scroll-margin-block: 1rem; outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
h1, h2 { font-family: var(--serif); line-height: 1.25; text-wrap: balance; }
h1 { font-size: var(--huge); font-weight: 400; letter-spacing: -.015em; line-height: 1.15; }
h2 { font-size: var(--large); font-weight: 600; }

.skip { position: absolute; inset-block-start: -9rem; padding: .75rem 1rem; background: var(--ink); color: var(--paper); }
.skip:focus { inset-block-start: .5rem; }

header { padding-block: clamp(1rem, 3vi, 2.25rem) .5rem; border-block-end: 1px solid var(--line); }
.wordmark {
  display: inline-flex; align-items: center; gap: .5em; min-block-size: 2.75rem;
  color: inherit; font: 600 1.25em var(--serif); text-decoration: none;
}
.wordmark::before {
  content: ""; inline-size: .85em; block-size: 1.15em; border-radius: 1px 3px 3px 1px;
  border-inline-start: .2em solid rgb(0 0 0/.3); background: var(--accent);
}
nav { display: flex; flex-wrap: wrap; column-gap: 1.35rem; font-size: var(--small); }
nav a { color: var(--quiet); padding-block: .4rem; text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
nav [aria-current] { color: var(--ink); font-weight: 700; text-decoration: underline .15em var(--accent); }

main { padding-block: clamp(1.75rem, 5vi, 4rem); }
main:focus { outline: none; }
.note { margin-block-start: 1.5rem; max-inline-size: 44rem; }
.onward { font-weight: 600; }

.books { padding: 0; margin-block: clamp(1.5rem, 4vi, 3rem); list-style: ""; }
li { display: flex; flex-wrap: wrap; align-items: start; gap: var(--gap); padding-block: var(--gap); }
li:first-child { padding-block-start: 0; }
li + li { border-block-start: 1px solid var(--line); }
.about { flex: 1 1 8rem; min-inline-size: 0; align-self: center; }
.about > * + * { margin-block-start: .35rem; }
h2.long { font-size: calc(1rem + (var(--large) - 1rem)*.4); font-weight: 500; text-wrap: pretty; }
.by ~ p, .by p { color: var(--quiet); font-size: var(--small); }
summary { cursor: pointer; }

.cover {
  flex: none; display: flex; flex-direction: column; justify-content: space-between;
  inline-size: var(--cover); aspect-ratio: 2/3; font-size: calc(var(--cover)/11);
  border-inline-start: .75em solid color-mix(in srgb, var(--cloth) 70%, #000); border-radius: .1em .3em .3em .1em;
  background: var(--motif), var(--cloth);
  box-shadow: 0 0 0 1px var(--edge), 0 .1em .2em rgb(0 0 0/.25), 0 .8em 1.4em -.5em rgb(0 0 0/.45); filter: var(--dim); overflow: clip;
}
.cover::before, .cover::after {
  padding: calc(var(--cover)*.06) calc(var(--cover)*.07); background: var(--cloth); color: var(--foil); overflow-wrap: anywhere; unicode-bidi: plaintext;
}
.cover::before {
  content: attr(data-title); font: 600 1.2em/1.25 var(--serif); text-wrap: balance;
  border-block-end: .08em solid;
}
.cover::after { content: attr(data-author); font: .8em/1.35 var(--sans); border-block-start: .1em solid; }
.large::before { font-size: 1.45em; }
.small::before { font-size: .9em; }
.tiny::before { font-size: .65em; }

.palette-0 { --cloth: #6b2323; --foil: #f0cf98; }
.palette-1 { --cloth: #24473b; --foil: #e6d6a8; }
.palette-2 { --cloth: #22365a; --foil: #f0c9a0; }
.palette-3 { --cloth: #d8a03d; --foil: #2d1c0c; }
.palette-4 { --cloth: #4c2848; --foil: #ecc3bb; }
.palette-5 { --cloth: #e7dbc4; --foil: #7c2a1d; }
.palette-6 { --cloth: #1f4c55; --foil: #f3dcb4; }
.palette-7 { --cloth: #a34324; --foil: #fff3df; }
.palette-8 { --cloth: #54552b; --foil: #f2e7c4; }
.palette-9 { --cloth: #c6d3d3; --foil: #1d3350; }
.palette-10 { --cloth: #34302d; --foil: #e9b58c; }
.motif-0 { --motif: repeating-radial-gradient(circle at 50% 66%, var(--foil) 0 .12em, #0000 .15em .55em); }
.motif-1 { --motif: repeating-linear-gradient(90deg, var(--foil) 0 .1em, #0000 .12em .7em); }
.motif-2 { --motif: radial-gradient(circle, var(--foil) .16em, #0000 .2em) 0 0/1em 1em round; }
.motif-3 { --motif: repeating-linear-gradient(45deg, var(--foil) 0 .07em, #0000 .1em .8em), repeating-linear-gradient(-45deg, var(--foil) 0 .07em, #0000 .1em .8em); }
.motif-4 { --motif: radial-gradient(circle at 50% 100%, #0000 .35em, var(--foil) .38em .46em, #0000 .5em) 0 0/1em .5em; }
.motif-5 { --motif: radial-gradient(circle at 50% 66%, var(--foil) 2em, #0000 2.05em); }
.motif-6 { --motif: conic-gradient(from 150deg at 50% 15%, var(--foil) 59deg, #0000 61deg 359deg, var(--foil)) 0 0/1.4em 1.4em round; }

footer p, .note { text-wrap: pretty; }
footer { padding-block: 1.5rem 2.5rem; border-block-start: 1px solid var(--line); color: var(--quiet); font-size: var(--small); }

@media (max-width: 48rem), (pointer: coarse) {
  nav { column-gap: .25rem; margin-inline: -.5rem; }
  nav a { padding-inline: .5rem; }
  nav a, .note a, .also a { display: inline-flex; align-items: center; min-block-size: 2.75rem; min-inline-size: 2.75rem; }
  .also { margin-block-start: 0; }
  .item { white-space: nowrap; }
  summary { padding-block: max(.2rem, (2.75rem - 1.6em)/2); }
  .note .onward { display: flex; inline-size: fit-content; }
  .about { align-self: start; }
}
@media (forced-colors: active) {
  :root { --dim: none; }
  .cover, .wordmark::before { border: 1px solid; border-inline-start-width: .6em; }
  .wordmark::before { border-inline-start-width: .25em; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --quiet: #333; --line: #999; --accent: #000; --dim: none; }
  nav, .skip, .onward { display: none; }
  li { break-inside: avoid; }
  summary { list-style: none; }
  .cover { --cloth: #fff; --foil: #000; border: 1px solid; border-inline-start-width: .6em; box-shadow: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
`
