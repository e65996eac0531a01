"""How the page looks: light, dark, on a telephone and on paper."""

STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1b1f;--soft:#55575f;--rule:#d5d7de;--card:#f5f6f9;--link:#0b57a4;
--warn:#8a1c00;--c0:#0060a0;--c1:#b34a00;--heat:0,96,160}
@media (prefers-color-scheme:dark){:root{--back:#15161a;--text:#ececf1;--soft:#b3b6c2;--rule:#3c3f4a;--card:#1f2127;
--link:#8cc4ff;--warn:#ffb199;--c0:#6cb8f5;--c1:#f5a35c;--heat:108,184,245}}
*{box-sizing:border-box}
html{scroll-padding-top:1rem}
body{margin:0;background:var(--back);color:var(--text);font:1rem/1.55 system-ui,sans-serif}
main,header,nav,footer{max-width:62rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.35rem;margin:1.2rem 0 .3rem}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.4rem 0 .4rem}
p,li,dd,h1,h2,h3{overflow-wrap:anywhere}
td,th{overflow-wrap:break-word}
p,li{max-width:46rem}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--back);padding:.3rem .6rem}
.answer{font-size:1.3rem;line-height:1.4;font-weight:600;margin:.3rem 0 1rem}
.warn{color:var(--warn);font-weight:600}
.soft,figcaption{color:var(--soft);font-size:.9rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;list-style:none}
nav a{display:inline-block;padding:.3rem 0}
figure{margin:1rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 1.5rem;align-items:start}
.plot{display:block;width:100%;max-width:34rem;height:auto}
.plot text{fill:var(--text);font:14px system-ui,sans-serif}
.plot .small{font-size:12px;fill:var(--soft)}
.grid{stroke:var(--rule);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}
.error{stroke:var(--soft);stroke-width:1.5}
.ideal{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}
.frame{fill:none;stroke:var(--rule)}
.s0{fill:none;stroke:var(--c0);stroke-width:2}.s1{fill:none;stroke:var(--c1);stroke-width:2}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}
.h0{fill:var(--back);stroke:var(--c0);stroke-width:1.5}
.b1{fill:var(--c1);opacity:.22}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;min-width:min(100%,20rem);font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:.9rem;padding-bottom:.3rem}
th,td{padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--rule);min-width:3.2rem}
th{font-weight:600}
.number{text-align:right;white-space:nowrap}
.long{min-width:12rem;max-width:34rem;overflow-wrap:anywhere}
caption span{display:block;max-width:calc(100vw - 2rem)}
.matrix td,.matrix th{padding:.35rem .6rem;text-align:right;min-width:4.4rem}
.matrix td span{display:block;font-size:.8rem}
.stamps{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:1rem;padding:0;
list-style:none}
.stamps li{background:var(--card);border:1px solid var(--rule);border-radius:.4rem;padding:.7rem;max-width:none}
.stamps li[hidden]{display:none}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.4rem}
.pair img{width:100%;height:auto;image-rendering:pixelated;background:#000}
dl{display:grid;grid-template-columns:minmax(5rem,auto) 1fr;gap:.1rem .7rem;margin:.6rem 0 0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0}
.controls{display:flex;flex-wrap:wrap;gap:.6rem 1.2rem;border:1px solid var(--rule);border-radius:.4rem;padding:.7rem;
margin:1rem 0}
.controls[hidden]{display:none}
.controls label{display:block;font-size:.9rem}
.controls select,.controls input{display:block;font:inherit;color:inherit;background:var(--back);max-width:14rem;
border:1px solid var(--soft);border-radius:.25rem;padding:.3rem}
pre{background:var(--card);padding:.7rem;overflow-x:auto}
code{font-size:.92em}
summary{cursor:pointer;padding:.3rem 0}
footer{padding:2rem 1rem;color:var(--soft);font-size:.9rem}
@media print{:root{--back:#fff;--text:#000;--soft:#444;--rule:#bbb;--card:#fff;--link:#000;--c0:#0060a0;--c1:#b34a00;
--heat:0,96,160}
nav,.controls,.skip{display:none!important}
figure,tr,.stamps li{break-inside:avoid}
td,th{overflow-wrap:anywhere;min-width:0;padding-right:.4rem}.long{min-width:0}
h2,h3{break-after:avoid}.wide{overflow:visible}body{font-size:10pt}
.stamps{grid-template-columns:repeat(4,1fr)}}
""" + "".join(
    # A share of a class as a shade: the background of a cell, and the filling of a square.
    f".heat{step}{{background:rgba(var(--heat),{0.06 + 0.05 * step:.2f});"
    f"fill:rgba(var(--heat),{0.15 + 0.094 * step:.2f})}}\n"
    for step in range(10)
)
