#include "launch/status/status_server.h"

namespace espalier {

// Text from the run is only ever set as text, never as markup.
const std::string& status_page() {
  static const std::string page = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Espalier run</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{--bg:#fbfbf8;--ink:#1d2420;--soft:#66706a;--line:#dfe3dc;--card:#fff;--go:#2f7d4f;--bad:#b3402e}
@media(prefers-color-scheme:dark){:root{--bg:#141816;--ink:#e6ebe6;--soft:#96a29a;--line:#2c332e;--card:#1b211d;--go:#66c28b;--bad:#f0836f}}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.3rem;margin:0 0 .2rem}h2{font-size:1rem;margin:1.6rem 0 .4rem}
.soft{color:var(--soft)}.state{color:var(--go);font-weight:600}.bad{color:var(--bad)}
.bar{height:.6rem;background:var(--line);border-radius:.3rem;overflow:hidden;margin:.8rem 0 .3rem}
.bar i{display:block;height:100%;background:var(--go);width:0}
.numbers{display:flex;flex-wrap:wrap;gap:.3rem 2rem}.numbers b{font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;background:var(--card);font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}
svg{width:100%;height:9rem;background:var(--card);border:1px solid var(--line)}
polyline{fill:none;stroke:var(--go);stroke-width:1.5;vector-effect:non-scaling-stroke}
</style></head><body><main>
<h1 id="run">Espalier</h1>
<div><span class="state" id="state"></span> <span class="soft" id="facts"></span></div>
<div class="bar"><i id="done"></i></div>
<div class="numbers" id="numbers"></div>
<h2>Loss</h2><svg viewBox="0 0 400 100" preserveAspectRatio="none" role="img" aria-label="loss over steps"><polyline id="curve"/></svg>
<h2>Ranks</h2><table><thead><tr><th>rank</th><th>host</th><th>pid</th><th>step</th><th>phase</th><th>last beat</th><th>last progress</th><th>waits for</th></tr></thead><tbody id="ranks"></tbody></table>
<h2>Events</h2><table><tbody id="events"></tbody></table>
</main><script>
const el=id=>document.getElementById(id);
const cell=(row,text,bad)=>{const td=row.insertCell();td.textContent=text;if(bad)td.className='bad'};
const age=s=>s<0?'-':s.toFixed(1)+' s';
function clock(s){s=Math.max(0,Math.round(s));return Math.floor(s/60)+':'+String(s%60).padStart(2,'0')}
function number(name,value){const d=document.createElement('div');d.textContent=name+' ';const b=document.createElement('b');b.textContent=value;d.append(b);el('numbers').append(d)}
function show(s){
 el('run').textContent=s.run;document.title=s.state+' · '+s.run;
 el('state').textContent=s.state+(s.stopping?' (stopping)':'');
 el('facts').textContent='generation '+s.generation+' · '+s.world_size+' ranks · '+s.restarts+' restarts · last checkpoint '+(s.last_commit_step<0?'none':'step '+s.last_commit_step)+' · up '+clock(s.uptime_s);
 el('numbers').textContent='';const p=s.progress;
 if(p){el('done').style.width=(p.total_steps?100*p.global_step/p.total_steps:0)+'%';
  number('stage',p.stage);number('step',p.step+' / '+p.stage_steps);number('loss',p.total_loss.toFixed(4));
  for(const k in p.losses)number(k,p.losses[k].toFixed(4));
  number('samples/s',p.samples_per_s.toFixed(0));if(p.tokens_per_s>0)number('tokens/s',p.tokens_per_s.toFixed(0));if(p.flops_per_s>0)number('TFLOP/s',(p.flops_per_s/1e12).toPrecision(3)+(p.peak_share>0?' ('+(100*p.peak_share).toFixed(0)+' % of peak)':''));if(p.host_memory_bytes>0)number('memory',(p.host_memory_bytes/2**30).toFixed(1)+' GiB'+(p.device_memory_bytes>0?', GPU '+(p.device_memory_bytes/2**30).toFixed(1)+' GiB':''));number('stage ends in',clock(p.eta_s));number('learning rate',p.learning_rate.toExponential(2))}
 const l=s.losses.filter(x=>x[1]!==null);
 if(l.length>1){const xs=l.map(x=>x[0]),ys=l.map(x=>x[1]),a=Math.min(...xs),b=Math.max(...xs),c=Math.min(...ys),d=Math.max(...ys);
  el('curve').setAttribute('points',l.map(x=>(400*(x[0]-a)/((b-a)||1)).toFixed(1)+','+(95-90*(x[1]-c)/((d-c)||1)).toFixed(1)).join(' '))}
 el('ranks').textContent='';
 for(const r of s.ranks){const row=el('ranks').insertRow();cell(row,r.rank);cell(row,r.host||'-');cell(row,r.joined?r.pid:'-');cell(row,r.step<0?'-':r.step);cell(row,r.joined?r.phase:'has not joined');cell(row,age(r.beat_age_s),r.suspect);cell(row,age(r.progress_age_s));cell(row,r.waits_for?r.waits_for+' (operation '+r.operations+')':'')}
 el('events').textContent='';
 for(const e of [...s.events].reverse()){const row=el('events').insertRow();cell(row,new Date(1000*e.time).toLocaleTimeString());cell(row,'gen '+e.generation);cell(row,e.event,e.event==='failure');cell(row,e.text)}
}
let last=null,answered=null;
function silence(){el('state').className='bad';const since=answered?' since '+answered.toLocaleTimeString():'';
 el('state').textContent='the coordinator has not answered'+since+(last?'; last known: '+last.state+(last.progress?', step '+last.progress.global_step+' of '+last.progress.total_steps:''):'');
 document.title='no answer · '+(last?last.run:'Espalier')}
async function turn(){try{const r=await fetch('/status.json');const s=await r.json();last=s;answered=new Date();el('state').className='state';show(s)}catch(e){silence()}setTimeout(turn,1000)}
turn();
</script></body></html>
)html";
  return page;
}

}  // namespace espalier
