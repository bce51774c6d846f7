#include "launch/report/report_style.h"

namespace espalier {

const std::string& report_style() {
  static const std::string style = R"css(
:root{color-scheme:light dark;--bg:#f7f7f3;--card:#fff;--ink:#1c231f;--soft:#65706a;--line:#e1e5de;
--s0:#2f7d4f;--s1:#3a6ea5;--s2:#b5622b;--s3:#8a5aa6;--s4:#a98a1d;--s5:#3b8f94;--base:#c0392b}
@media(prefers-color-scheme:dark){:root{--bg:#131715;--card:#1b211e;--ink:#e7ece8;--soft:#98a49d;--line:#2d3530;
--s0:#6cc48f;--s1:#7db2ea;--s2:#e79a62;--s3:#c79be3;--s4:#dcc05a;--s5:#72c7cc;--base:#ff8a7a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:72rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;margin:0;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:2.6rem 0 .7rem;padding-bottom:.3rem;border-bottom:2px solid var(--line)}
h3{font-size:1.05rem;margin:1.7rem 0 .5rem}h4{font-size:.95rem;margin:1.1rem 0 .4rem}
p{margin:.4rem 0;max-width:48rem}.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.8rem;margin:1.2rem 0}
.cards.few{grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
.card,.panel,figure{background:var(--card);border:1px solid var(--line);border-radius:.5rem}
.card{padding:.8rem 1rem}.card b{display:block;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:.9rem;margin:.8rem 0}
.grid.wide{grid-template-columns:repeat(auto-fill,minmax(25rem,1fr))}
.panel{padding:.5rem}.chart{width:100%;height:auto;display:block}
.chart text{fill:var(--soft);font-size:11px}.chart .title{fill:var(--ink);font-size:13px;font-weight:600}
.chart .last,.chart .value{fill:var(--ink);font-size:11px;font-variant-numeric:tabular-nums}
.chart .value{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.chart .grid{stroke:var(--line);stroke-width:1}
.series{fill:none;stroke-width:1.8;stroke-linejoin:round}.faint{opacity:.28;stroke-width:1}
.series.s0{stroke:var(--s0)}.series.s1{stroke:var(--s1)}.series.s2{stroke:var(--s2)}.series.s3{stroke:var(--s3)}.series.s4{stroke:var(--s4)}.series.s5{stroke:var(--s5)}
.series.dashed{stroke-dasharray:5 4;stroke-width:1.3}.zero{stroke:var(--soft);stroke-width:1}
.band{opacity:.18}.band.s0{fill:var(--s0)}.band.s1{fill:var(--s1)}.band.s2{fill:var(--s2)}.band.s3{fill:var(--s3)}.band.s4{fill:var(--s4)}.band.s5{fill:var(--s5)}
.bar.s0{fill:var(--s0)}.baseline{stroke:var(--base);stroke-width:1.5;stroke-dasharray:5 4}
.baseline.l1{stroke:var(--s2);stroke-dasharray:2 3}.baseline.l2{stroke:var(--s1);stroke-dasharray:8 3}.baseline.l3{stroke:var(--s3);stroke-dasharray:8 3 2 3}.baseline.l4{stroke:var(--s4);stroke-dasharray:3 2}.baseline.l5{stroke:var(--s5);stroke-dasharray:10 4}
.share{display:flex;height:1.3rem;border-radius:.35rem;overflow:hidden;background:var(--line);margin:.5rem}
.share i{display:block;height:100%}.b0{background:var(--s0)}.b1{background:var(--s1)}.b2{background:var(--s2)}.b3{background:var(--s3)}.b4{background:var(--s4)}.b5{background:var(--s5)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.2rem .5rem .5rem;padding:0;font-size:.88rem}
.legend i{display:inline-block;width:.7rem;height:.7rem;border-radius:.15rem;margin-right:.35rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;background:var(--card);border:1px solid var(--line);font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.35rem .8rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:500;font-size:.88rem}td.n,th.n{text-align:right}
td.under{padding-left:1.8rem}td.all{text-align:center}tr.ours td:first-child{border-left:3px solid var(--s0)}
figure{margin:.8rem 0;padding:.7rem;display:inline-block;max-width:100%;vertical-align:top}
figure img{display:block;max-width:100%;height:auto;image-rendering:pixelated;background:#fff;border-radius:.25rem}
figcaption{color:var(--soft);font-size:.88rem;padding-top:.45rem;max-width:44rem}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--soft)}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;overflow:auto;font-size:.82rem;max-height:32rem}
)css";
  return style;
}

}  // namespace espalier
