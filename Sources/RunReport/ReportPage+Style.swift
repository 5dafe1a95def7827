extension ReportPage {
    /// Colours that are told apart in all common kinds of colour blindness (after Okabe and Ito), for light and dark.
    private static let lightColors = ["#0b6bb0", "#d1560a", "#00896a", "#b4528c", "#a87900", "#3f9bd4", "#666666"]
    private static let darkColors = ["#5ab0ee", "#ff9a57", "#3ecfa3", "#e79ac6", "#f2c14e", "#a9d6f5", "#b5b5b5"]

    // Properties of the style have capitals: in small letters they would look like flags of a command line.
    private static func colors(_ values: [String]) -> String {
        values.enumerated().map { "--C\($0):\($1);" }.joined()
    }

    /// Which figure the switches show, and where they show that they have the focus.
    private static let switchRules: String = {
        var text = ""
        for x in ["steps", "epochs", "time"] {
            for y in ["auto", "lin", "log"] {
                text += "#x-\(x):checked~#y-\(y):checked~main .\(x).\(y){display:block}\n"
            }
        }
        for id in ["x-steps", "x-epochs", "x-time", "y-auto", "y-lin", "y-log", "smooth"] {
            text +=
                "#\(id):checked~nav label[for=\(id)]{background:var(--Accent);color:var(--Paper);border-color:var(--Accent)}\n"
            text += "#\(id):focus-visible~nav label[for=\(id)]{outline:3px solid var(--Focus);outline-offset:2px}\n"
        }
        return text
    }()

    static let style = """
        :root{color-scheme:light dark;--Paper:#fff;--Raised:#fff;--Ground:#f5f6f7;--Ink:#1b1f24;--Soft:#59626d;--Line:#dfe3e8;\
        --Grid:#e9ecf0;--Accent:#1f4e79;--Focus:#e08a00;--Good:#00684f;--Bad:#a8320a;\(colors(lightColors))}
        @media screen and (prefers-color-scheme:dark){:root{--Paper:#14171b;--Raised:#1b1f24;--Ground:#111418;--Ink:#e6e9ed;--Soft:#a3adb8;\
        --Line:#333a42;--Grid:#282e35;--Accent:#8fc1ee;--Focus:#ffc04d;--Good:#4ad6a8;--Bad:#ff9a6b;\(colors(darkColors))}}
        *{box-sizing:border-box}
        body{margin:0;background:var(--Ground);color:var(--Ink);\
        font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
        body>input{position:fixed;top:0;left:0;width:1px;height:1px;opacity:0;margin:0}
        header,main,footer,nav{max-width:1360px;margin:0 auto;padding:0 24px}
        header{padding-top:36px}
        .kind{margin:0;color:var(--Soft);font-size:14px;letter-spacing:.04em;text-transform:uppercase}
        h1{margin:0 0 10px;font-size:30px;line-height:1.25;font-weight:650;overflow-wrap:anywhere}
        h1 span+span::before{content:"·";color:var(--Soft);margin:0 .3em 0 .1em}
        h2{margin:44px 0 14px;font-size:21px;font-weight:650}
        h3{margin:0;font-size:16px;font-weight:650}
        p{margin:0 0 8px}
        .state{overflow-wrap:anywhere}
        .badge{display:inline-block;padding:1px 10px;border-radius:99px;border:1px solid currentColor;font-size:14px;font-weight:600;color:var(--Soft)}
        .badge.finished,.badge.running{color:var(--Good)}
        .badge.failed,.badge.killed{color:var(--Bad)}
        .swatch{width:24px;height:8px;margin-right:8px}
        nav{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:8px 28px;padding-top:10px;padding-bottom:10px;margin-top:14px;background:var(--Ground)}
        nav div{display:flex;align-items:center;gap:0}
        nav span{margin-right:10px;color:var(--Soft);font-size:14px}
        nav label{padding:3px 12px;border:1px solid var(--Line);background:var(--Raised);font-size:14px;cursor:pointer;margin-left:-1px}
        nav label:first-of-type{border-radius:6px 0 0 6px}
        nav label:last-of-type{border-radius:0 6px 6px 0}
        nav label:only-of-type{border-radius:6px}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:18px}
        figure{margin:0}
        .chart{background:var(--Raised);border:1px solid var(--Line);border-radius:10px;padding:16px 12px 10px 18px;min-width:0}
        figcaption p{color:var(--Soft);font-size:14px;margin:0 0 6px}
        .legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;margin:0 0 6px;padding:0;font-size:14px}
        .legend li{display:flex;align-items:center;overflow-wrap:anywhere}
        .legend svg{flex:none;width:24px;height:8px;margin-right:7px}
        .plot{display:none}
        .frame{position:relative;height:230px;margin:12px 22px 28px 58px}
        .frame svg{position:absolute;inset:0;width:100%;height:100%;border-left:1px solid var(--Soft);border-bottom:1px solid var(--Soft)}
        .frame span{position:absolute;color:var(--Soft);font-size:13px;line-height:1;white-space:nowrap;font-variant-numeric:tabular-nums}
        .frame .y{right:100%;padding-right:8px;transform:translateY(-50%)}
        .frame .x{top:100%;padding-top:8px;transform:translateX(-50%)}
        .across{margin:0 22px 0 58px;color:var(--Soft);font-size:13px;text-align:center}
        path{fill:none;stroke-width:1.5;stroke-linejoin:round;vector-effect:non-scaling-stroke}
        .grid{stroke:var(--Grid);stroke-width:1}
        \((0..<Chart.colors).map { ".c\($0){stroke:var(--C\($0))}.c\($0) .band{fill:var(--C\($0))}" }.joined())
        .band{stroke:none;opacity:.2}
        .raw{opacity:.5;stroke-width:1}
        .smooth{stroke-width:2.2}
        .dots{stroke-width:6;stroke-linecap:round}
        .swatch path,.legend path{stroke-width:3}
        .dash1,.dash1 path{stroke-dasharray:7 4}
        .dash2,.dash2 path{stroke-dasharray:2 4}
        .dash1 .dots,.dash2 .dots,.dash1 .band,.dash2 .band{stroke-dasharray:none}
        #smooth:not(:checked)~main .smooth{display:none}
        #smooth:not(:checked)~main .raw{opacity:1;stroke-width:1.5}
        .cursor{position:absolute;top:0;bottom:0;width:1px;background:var(--Soft);pointer-events:none}
        .value{position:absolute;top:4px;padding:5px 9px;border-radius:6px;background:var(--Ink);color:var(--Paper)!important;font-size:13px;line-height:1.45!important;pointer-events:none;white-space:pre!important;z-index:1}
        .frame svg:focus-visible{outline:3px solid var(--Focus);outline-offset:3px}
        .note{color:var(--Soft);font-size:14px;margin:12px 0 0;max-width:80ch}
        .warning{color:var(--Bad)}
        .scroll{overflow-x:auto;background:var(--Raised);border:1px solid var(--Line);border-radius:10px;margin:0 0 16px}
        .scroll:focus-visible{outline:3px solid var(--Focus)}
        table{border-collapse:collapse;width:100%;font-size:15px;font-variant-numeric:tabular-nums}
        caption{text-align:left;padding:10px 16px;color:var(--Soft);font-size:14px}
        th,td{padding:6px 16px;text-align:left;vertical-align:top;border-top:1px solid var(--Line)}
        thead th{color:var(--Soft);font-weight:600;border-top:0}
        caption+thead th{border-top:1px solid var(--Line)}
        tbody th{font-weight:400;color:var(--Soft)}
        .facts thead{display:none}
        .facts tbody tr:first-child>*{border-top:0}
        .facts tbody th{width:16em}
        .facts td,.compare td{overflow-wrap:anywhere}
        .compare td,.compare thead th{min-width:9em}
        .numbers td,.numbers thead th+th{text-align:right;white-space:nowrap}
        .processes td,.processes th{white-space:nowrap}
        .commands{margin:0 0 16px;padding-left:2.2em;color:var(--Soft);font-size:14px}
        .commands li{margin:0 0 6px}
        .commands code{color:var(--Ink)}
        .commands span{white-space:nowrap}
        caption span{display:block;position:sticky;left:16px;width:fit-content;max-width:calc(100vw - 64px)}
        .numbers tbody th{white-space:nowrap;color:var(--Ink)}
        code{font:13.5px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
        details{margin:0 0 14px}
        summary{cursor:pointer;padding:4px 0;margin-bottom:8px;overflow-wrap:anywhere}
        summary:focus-visible{outline:3px solid var(--Focus)}
        .pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(160px,1fr));gap:16px}
        .pictures figcaption{font-size:14px;line-height:1.35;overflow-wrap:anywhere;margin-top:6px}
        .pictures small,td small{color:var(--Soft);font-size:13px}
        img{display:block;max-width:100%;height:auto;border-radius:4px;image-rendering:pixelated;background:var(--Grid)}
        .reconstructed{width:auto}
        .reconstructed td,.reconstructed thead th{padding:8px 6px;min-width:76px}
        .reconstructed tbody th{max-width:12em;overflow-wrap:anywhere}
        .confusion{width:auto;font-size:13px}
        .confusion td{text-align:center;min-width:3em;padding:5px 4px;border-left:1px solid var(--Line);background:color-mix(in srgb,var(--H) calc(var(--A)*70%),transparent)}
        .confusion td{--H:var(--C1)}
        .confusion td.own{--H:var(--C2)}
        .confusion th{white-space:nowrap}
        footer{padding-top:20px;padding-bottom:40px;color:var(--Soft);font-size:14px}
        @media (max-width:600px){header,main,footer,nav{padding-left:14px;padding-right:14px}h1{font-size:24px}\
        .facts tbody th{width:9.5em}th,td{padding:6px 10px}nav{position:static;gap:8px 14px}.chart{padding:14px 8px 8px 10px}nav label{padding:3px 9px}}
        @media print{:root{color-scheme:light}body{background:#fff;font-size:11pt}nav,script{display:none}.chart,.pictures figure,tr,li{break-inside:avoid}.chart,.scroll{border-color:#bbb}\
        table{font-size:10pt}th,td{padding:3px 10px}h2{margin-top:26px}caption span{position:static;max-width:none}\
        .charts{grid-template-columns:1fr 1fr;gap:10px}.frame{height:170px}.scroll{overflow:visible}h2{break-after:avoid}header{padding-top:0}\
        *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}

        """ + switchRules

    /// Values under the pointer, or under a cursor that the arrow keys move; and switches that a reload keeps. Without it
    /// the page shows all the same.
    static let script = #"""
        "use strict";
        (function(){
        var switches=document.querySelectorAll("body>input");
        try{
          location.hash.slice(1).split(",").forEach(function(w){
            var e=w&&document.getElementById(w.replace(/^no-/,""));
            if(e&&e.matches("body>input"))e.checked=!/^no-/.test(w);});
        }catch(e){}
        switches.forEach(function(e){e.addEventListener("change",function(){
          var on=[];switches.forEach(function(s){if(s.checked)on.push(s.id);else if(s.id=="smooth")on.push("no-smooth");});
          try{history.replaceState(null,"","#"+on.join(","));}catch(e){}});});
        var opened=[];
        addEventListener("beforeprint",function(){
          document.querySelectorAll("details:not([open])").forEach(function(e){e.open=true;opened.push(e);});});
        addEventListener("afterprint",function(){opened.forEach(function(e){e.open=false;});opened=[];});
        function points(path){
          var out=[],x=0,y=0,d=path.getAttribute("d");
          d.replace(/([MlhH])([^MlhH]*)/g,function(_,c,rest){
            var n=(rest.match(/-?\d+/g)||[]).map(Number),i;
            if(c=="M"){x=n[0];y=n[1];out.push([x,y]);}
            else if(c=="l")for(i=0;i+1<n.length;i+=2){x+=n[i];y+=n[i+1];out.push([x,y]);}});
          return out;}
        function duration(s){
          if(s<60)return s.toFixed(s<10?1:0)+" s";
          if(s<3600)return Math.floor(s/60)+" min "+Math.round(s%60)+" s";
          if(s<172800)return Math.floor(s/3600)+" h "+Math.round(s%3600/60)+" min";
          return Math.floor(s/86400)+" d "+Math.round(s%86400/3600)+" h";}
        document.querySelectorAll(".frame>svg").forEach(function(svg){
          var frame=svg.parentNode,xs=svg.dataset.x.split(" ").map(Number),ys=svg.dataset.y.split(" ").map(Number),
            kind=svg.dataset.k.split(" "),curves=null,line=null,box=null,at=-1;
          var names=[].map.call(frame.closest("figure").querySelectorAll(".legend li"),function(e){return e.textContent;});
          svg.setAttribute("tabindex","0");
          function prepare(){
            if(curves)return;
            curves=[].map.call(svg.querySelectorAll("g"),function(g){return points(g.querySelector(".mean"));});}
          function value(y){
            var f=1-y/1000,v=kind[1]=="log"?ys[0]*Math.pow(ys[1]/ys[0],f):ys[0]+(ys[1]-ys[0])*f;
            if(kind[2])return (100*v).toFixed(1)+" %";
            if(Math.abs(v)<(ys[1]-ys[0])*1e-9)return "0";
            return Math.abs(v)>=1e6||Math.abs(v)<1e-3?v.toExponential(2):String(+v.toPrecision(3));}
          function show(x){
            prepare();
            var best=null;
            curves.forEach(function(c){c.forEach(function(p){if(best===null||Math.abs(p[0]-x)<Math.abs(best-x))best=p[0];});});
            if(best===null)return;
            at=best;
            if(!line){line=document.createElement("div");line.className="cursor";box=document.createElement("span");box.className="value";
              box.setAttribute("role","status");frame.append(line,box);}
            var v=xs[0]+(xs[1]-xs[0])*best/2000,
              text=[kind[0]=="time"?duration(v):kind[0]=="steps"?"step "+Math.round(v).toLocaleString("en"):"epoch "+v.toFixed(2)];
            curves.forEach(function(c,i){
              var near=null;
              c.forEach(function(p){if(near===null||Math.abs(p[0]-best)<Math.abs(near[0]-best))near=p;});
              if(near)text.push((names[i]?names[i]+"  ":"")+"≈ "+value(near[1]));});
            box.textContent=text.join("\n");
            line.style.left=best/20+"%";
            if(best<1000){box.style.left="calc("+best/20+"% + 8px)";box.style.right="auto";}
            else{box.style.right="calc("+(100-best/20)+"% + 8px)";box.style.left="auto";}}
          function hide(){if(line){line.remove();box.remove();line=box=null;}at=-1;}
          svg.addEventListener("pointermove",function(e){
            var r=svg.getBoundingClientRect();show((e.clientX-r.left)/r.width*2000);});
          svg.addEventListener("pointerleave",hide);
          svg.addEventListener("blur",hide);
          svg.addEventListener("keydown",function(e){
            var step={ArrowLeft:-1,ArrowRight:1}[e.key];
            if(e.key=="Escape")hide();
            if(!step)return;
            e.preventDefault();prepare();
            var all=[];curves.forEach(function(c){c.forEach(function(p){all.push(p[0]);});});
            all=all.filter(function(x,i){return all.indexOf(x)==i;}).sort(function(a,b){return a-b;});
            if(!all.length)return;
            var i=at<0?(step>0?-1:all.length):all.indexOf(at);
            show(all[Math.max(0,Math.min(all.length-1,i+step*(e.shiftKey?10:1)))]);});});
        })();

        """#
}
