// Draws the charts of a page. The element with data-charts says where the numbers are; each .chart in it names its chart.
(function () {
  "use strict";
  var root = document.querySelector("[data-charts]");
  if (!root || !window.uPlot) return;

  var url = root.dataset.charts, zone = root.dataset.zone || "UTC";
  var preset = Number(root.dataset.range) || 0; // seconds back from now; 0 is a fixed window
  var win = { from: Number(root.dataset.from), to: Number(root.dataset.to) };
  var start = { preset: preset, from: win.from, to: win.to };
  var charts = [], marks = [], members = {}, wanted = [], timer = 0;
  var sync = uPlot.sync("page");

  // Colours come from the style sheet's tokens; canvas needs them resolved for the theme in use.
  var probe = document.createElement("i");
  probe.className = "hide";
  root.appendChild(probe);
  function colour(name) { probe.style.color = "var(" + name + ")"; return getComputedStyle(probe).color; }
  var look = {};
  function readLook() {
    look = { muted: colour("--muted"), grid: colour("--grid"), series: [], mark: {} };
    for (var i = 1; i <= 8; i++) look.series.push(colour("--s" + i));
    look.mark = { restart: colour("--mark-restart"), primary: colour("--mark-primary"), secondary: colour("--mark-secondary"), other: colour("--muted"), alert: colour("--crit"), over: colour("--ok") };
    look.limit = colour("--crit");
  }
  readLook();

  var names = { PERCENT: "%", MILLISECONDS: "ms", SECONDS: "s", SCALAR_PER_SECOND: "/s", SCALAR: "", GIGABYTES_PER_HOUR: "GB/h" };
  function short(v) {
    var a = Math.abs(v);
    if (a >= 100 || v === 0) return String(Math.round(v));
    if (a >= 10) return String(Math.round(v * 10) / 10);
    if (a >= 0.01) return String(Math.round(v * 100) / 100);
    return v.toExponential(0);
  }
  function span(v) {
    var a = Math.abs(v);
    if (a < 1 && a > 0) return short(v * 1000) + " ms";
    if (a < 120) return short(v) + " s";
    if (a < 7200) return short(v / 60) + " min";
    if (a < 172800) return short(v / 3600) + " h";
    return short(v / 86400) + " d";
  }
  function scaled(v, by, steps, tail) {
    var i = 0;
    while (Math.abs(v) >= by && i < steps.length - 1) { v /= by; i++; }
    return short(v) + (steps[i] + tail ? " " + steps[i] + tail : "");
  }
  var binary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], decimal = ["", "k", "M", "G", "T"];
  function text(v, unit) {
    if (v === null || v === undefined) return "–";
    switch (unit) {
      case "SECONDS": return span(v);
      case "MILLISECONDS": return Math.abs(v) >= 1000 ? span(v / 1000) : short(v) + " ms";
      case "PERCENT": return short(v) + " %";
      case "BYTES": return scaled(v, 1024, binary, "");
      case "KILOBYTES": return scaled(v * 1024, 1024, binary, "");
      case "MEGABYTES": return scaled(v * 1048576, 1024, binary, "");
      case "GIGABYTES": return scaled(v * 1073741824, 1024, binary, "");
      case "BYTES_PER_SECOND": return scaled(v, 1024, binary, "/s");
      case "MEGABYTES_PER_SECOND": return scaled(v * 1048576, 1024, binary, "/s");
      case "GIGABYTES_PER_HOUR": return short(v) + " GB/h";
      case "SCALAR_PER_SECOND": return scaled(v, 1000, decimal, "") + "/s";
    }
    return scaled(v, 1000, decimal, "");
  }
  var factor = { KILOBYTES: 1024, MEGABYTES: 1048576, GIGABYTES: 1073741824, MEGABYTES_PER_SECOND: 1048576 };
  // Axis steps: round in the unit people read, so that a byte axis says 512 MiB and not 500.
  function steps(unit) {
    var out = [], i, f = factor[unit] || 1, k;
    if (unit.indexOf("BYTES") >= 0 && unit !== "GIGABYTES_PER_HOUR") {
      for (i = 0; i < 60; i++) out.push(Math.pow(2, i) / f);
      return out;
    }
    if (unit === "SECONDS") return [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000, 864000, 1728000, 4320000];
    for (k = -4; k < 14; k++) [1, 2, 5].forEach(function (m) { out.push(m * Math.pow(10, k)); });
    return out;
  }
  function when(t, seconds) {
    try { return new Date(t * 1000).toLocaleString([], { timeZone: zone, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" }); } catch (e) { return new Date(t * 1000).toISOString(); }
  }

  function Chart(el) {
    this.el = el;
    this.id = el.dataset.chart;
    this.plot = el.querySelector(".plot");
    this.legend = el.querySelector(".legend");
    this.said = el.querySelector(".said");
    this.data = null;
    this.u = null;
    this.key = "";
  }
  Chart.prototype.columns = function () {
    var c = this.data, cols = [c.t];
    if (!c.stacked) return cols.concat(c.series.map(function (s) { return s.v; }));
    var sum = c.t.map(function () { return 0; });
    c.series.forEach(function (s) {
      cols.push(s.v.map(function (v, i) { if (v === null) return null; sum[i] += v; return sum[i]; }));
    });
    return cols;
  };
  Chart.prototype.values = function () {
    var c = this.data, u = this.u, at = u && u.cursor.idx;
    var live = at !== null && at !== undefined;
    for (var i = 0; i < c.series.length; i++) {
      var v = null, list = c.series[i].v;
      if (live) v = list[at];
      else for (var k = list.length - 1; k >= 0 && k > list.length - 4; k--) if (list[k] !== null) { v = list[k]; break; }
      var b = this.legend.children[i] && this.legend.children[i].lastChild, s = text(v, c.series[i].u || c.unit);
      if (b && b.textContent !== s) b.textContent = s;
    }
    var note = "";
    if (live && u.cursor.left >= 0) {
      note = when(c.t[at], c.step < 60);
      marks.forEach(function (m) {
        var x = u.valToPos(m.t, "x");
        if (Math.abs(x - u.cursor.left) < 6) note = m.text + ", " + when(m.t, true);
      });
    } else if (c.step) note = c.res;
    if (this.said.textContent !== note) this.said.textContent = note;
  };
  Chart.prototype.drawMarks = function (u) {
    var ctx = u.ctx, px = uPlot.pxRatio || 1;
    var shown = marks.filter(function (m) { return m.t >= u.scales.x.min && m.t <= u.scales.x.max; }).length;
    ctx.save();
    marks.forEach(function (m) {
      if (m.t < u.scales.x.min || m.t > u.scales.x.max) return;
      var x = Math.round(u.valToPos(m.t, "x", true)), top = u.bbox.top, c = look.mark[m.kind] || look.mark.other;
      ctx.strokeStyle = ctx.fillStyle = c;
      ctx.lineWidth = px;
      if (shown <= 12) { // many lines would hide what they explain: then the shapes alone stand above the chart
        ctx.globalAlpha = 0.75;
        ctx.beginPath();
        ctx.moveTo(x + 0.5, top);
        ctx.lineTo(x + 0.5, top + u.bbox.height);
        ctx.stroke();
      }
      ctx.globalAlpha = 1;
      ctx.beginPath(); // a shape a kind: square restart, triangle up primary, triangle down secondary, diamond alert, circle the rest
      var r = 3.5 * px;
      if (m.kind === "restart") ctx.rect(x - r, top - r, 2 * r, 2 * r);
      else if (m.kind === "primary") { ctx.moveTo(x - r, top + r); ctx.lineTo(x + r, top + r); ctx.lineTo(x, top - r); }
      else if (m.kind === "secondary") { ctx.moveTo(x - r, top - r); ctx.lineTo(x + r, top - r); ctx.lineTo(x, top + r); }
      else if (m.kind === "alert" || m.kind === "over") { ctx.moveTo(x, top - r); ctx.lineTo(x + r, top); ctx.lineTo(x, top + r); ctx.lineTo(x - r, top); }
      else ctx.arc(x, top, r, 0, 7);
      ctx.fill();
    });
    ctx.restore();
  };
  // Thresholds of alert rules: dashed, named at their right end.
  Chart.prototype.drawLimits = function (u) {
    var ctx = u.ctx, px = uPlot.pxRatio || 1, box = u.bbox;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = look.limit;
    ctx.lineWidth = px;
    ctx.font = 11 * px + "px system-ui, sans-serif";
    ctx.textAlign = "right";
    (this.data.limits || []).forEach(function (l) {
      if (l.v < u.scales.y.min || l.v > u.scales.y.max) return;
      var y = Math.round(u.valToPos(l.v, "y", true)) + 0.5;
      ctx.setLineDash([5 * px, 4 * px]);
      ctx.beginPath();
      ctx.moveTo(box.left, y);
      ctx.lineTo(box.left + box.width, y);
      ctx.stroke();
      ctx.fillText(l.text, box.left + box.width - 4 * px, y - 4 * px < box.top + 10 * px ? y + 12 * px : y - 4 * px);
    });
    ctx.restore();
  };
  Chart.prototype.build = function () {
    var self = this, c = this.data, i;
    if (this.u) { sync.unsub(this.u); this.u.destroy(); }
    this.plot.textContent = "";
    this.plot.classList.remove("none");
    var series = [{}], bands = [];
    c.series.forEach(function (s, n) {
      var col = look.series[(s.c === undefined ? n : s.c) % 8];
      series.push({
        label: s.name, stroke: col, width: 1.25, show: members[s.name] !== false && !(c.off && c.off[s.name]), spanGaps: false,
        points: { show: function (u, si, i0, i1) { return i1 - i0 < 3 || lonely(u.data[si]); }, size: 4 },
        fill: c.stacked ? col.replace("rgb(", "rgba(").replace(")", ", .35)") : undefined,
      });
    });
    if (c.stacked) for (i = c.series.length; i > 1; i--) bands.push({ series: [i, i - 1] });
    var axis = { stroke: look.muted, grid: { stroke: look.grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.u = new uPlot({
      width: Math.max(120, this.plot.clientWidth), height: this.plot.clientHeight, series: series, bands: bands,
      tzDate: function (t) { return uPlot.tzDate(new Date(t * 1000), zone); },
      legend: { show: false }, padding: [8, 8, 0, 0],
      scales: {
        x: { range: function () { return [win.from, win.to]; } },
        y: { range: function (u, lo, hi) {
          if (c.max) return [0, c.max];
          if (lo === null || hi === null) { lo = 0; hi = c.limits ? 0 : 1; }
          // A threshold near the line is in the picture; one far above would press the line flat.
          (c.limits || []).forEach(function (l) { if (l.v > 0 && (c.near || l.v <= hi * 3)) hi = Math.max(hi, l.v * 1.04); });
          if (hi <= 0 && lo >= 0) hi = 1;
          return [lo < 0 ? lo * 1.08 : 0, hi > 0 ? hi * 1.08 : 0];
        } },
      },
      axes: [
        Object.assign({}, axis, { size: 24, space: 64, values: [[31536000, "{YYYY}", null, null, null, null, null, null, 1], [86400, "{D} {MMM}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", "\n{D} {MMM}", null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]].map(function (r) { if (r[2]) { r = r.slice(); r[2] = null; } return r; }) }),
        Object.assign({}, axis, { size: 60, space: 32, incrs: steps(c.unit), values: function (u, list) { return list.map(function (v) { return v === 0 ? "0" : text(v, c.unit); }); } }),
      ],
      cursor: {
        sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, y: false,
        bind: { dblclick: function () { return function () { reset(); return null; }; } },
      },
      hooks: {
        setCursor: [function () { self.values(); }],
        draw: [function (u) { self.drawLimits(u); self.drawMarks(u); }],
        setSelect: [function (u) {
          if (u.select.width < 6) return;
          var a = u.posToVal(u.select.left, "x"), b = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          go(a, b, 0);
        }],
      },
    }, this.columns(), this.plot);
    sync.sub(this.u);
    this.legend.textContent = "";
    c.series.forEach(function (s, n) {
      var b = document.createElement("button"), k = document.createElement("i"), w = document.createElement("span"), v = document.createElement("b");
      b.type = "button";
      b.title = s.name;
      b.setAttribute("aria-pressed", String(self.u.series[n + 1].show));
      k.className = "key k" + ((s.c === undefined ? n : s.c) % 8);
      w.className = "n";
      w.textContent = s.name;
      b.append(k, w, v);
      b.addEventListener("click", function () {
        var on = !self.u.series[n + 1].show;
        self.u.setSeries(n + 1, { show: on });
        b.setAttribute("aria-pressed", String(on));
      });
      self.legend.appendChild(b);
    });
    var any = c.series.some(function (s) { return s.v.some(function (v) { return v !== null; }); });
    if (!any) {
      var p = document.createElement("p");
      p.className = "why-empty";
      p.textContent = c.why || "Nothing was measured in this range.";
      this.plot.appendChild(p);
      this.plot.classList.add("none");
    }
    this.values();
  };
  function lonely(list) { // a value between two gaps would be invisible as a line
    var n = 0;
    for (var i = 0; i < list.length; i++) if (list[i] !== null) n++;
    return n > 0 && n < 3;
  }
  Chart.prototype.take = function (c, more) {
    var n = c.n, t = new Array(n), i;
    for (i = 0; i < n; i++) t[i] = c.start + i * c.step;
    c.t = t;
    var key = c.step + "|" + c.series.map(function (s) { return s.name; }).join("|");
    if (more && this.data && key === this.key) {
      var old = this.data, cut = old.t.findIndex(function (x) { return x >= c.start; });
      if (cut < 0) cut = old.t.length;
      var first = old.t.findIndex(function (x) { return x >= win.from - c.step; });
      if (first < 0 || first > cut) first = cut;
      c.series.forEach(function (s, k) { s.v = old.series[k].v.slice(first, cut).concat(s.v); });
      c.t = old.t.slice(first, cut).concat(t);
      c.near = old.near;
      this.data = c;
      this.u.setData(this.columns(), false);
      this.u.setScale("x", { min: win.from, max: win.to });
      if (this.plot.querySelector(".why-empty")) this.build();
      this.values();
      return;
    }
    this.key = key;
    this.data = c;
    c.near = this.id.indexOf("m:") === 0;
    this.build();
  };

  // Asking for numbers: the charts in sight first, several in one request.
  function ask(list, from, to, step, more) {
    if (!list.length) return Promise.resolve();
    var q = new URL(url, location.href);
    q.searchParams.set("charts", list.map(function (c) { return c.id; }).join(","));
    q.searchParams.set("from", new Date(from * 1000).toISOString());
    q.searchParams.set("to", new Date(to * 1000).toISOString());
    if (step) q.searchParams.set("step", step);
    return fetch(q, { headers: { Accept: "application/json" }, credentials: "same-origin" }).then(function (r) {
      if (!r.ok) return r.json().then(function (p) { throw new Error(p.error || r.status); }, function () { throw new Error("status " + r.status); });
      return r.json();
    }).then(function (got) {
      if (window.heartwoodFound) window.heartwoodFound();
      if (!more) marks = got.marks || [];
      else (got.marks || []).forEach(function (m) { if (!marks.some(function (x) { return x.t === m.t && x.text === m.text; })) marks.push(m); });
      got.charts.forEach(function (c) {
        var to = list.find(function (x) { return x.id === c.id; });
        c.start = got.start; c.step = got.step; c.n = got.n; c.res = got.resolution;
        if (to) to.take(c, more);
      });
    }, function (err) {
      if (window.heartwoodLost) window.heartwoodLost("Charts cannot be loaded (" + err.message + ")");
      list.forEach(function (c) { if (!c.data) { c.plot.textContent = ""; var p = document.createElement("p"); p.className = "why-empty"; p.textContent = "Cannot be loaded now: " + err.message; c.plot.appendChild(p); } });
    });
  }
  function flush() {
    var list = wanted;
    wanted = [];
    for (var i = 0; i < list.length; i += 6) ask(list.slice(i, i + 6), win.from, win.to, 0, false);
  }
  function want(c) {
    if (wanted.indexOf(c) < 0) wanted.push(c);
    clearTimeout(timer);
    timer = setTimeout(flush, 40);
  }
  function links() {
    var q = new URL(location.href);
    if (preset) { q.searchParams.delete("from"); q.searchParams.delete("to"); q.searchParams.set("range", preset === start.preset && root.dataset.preset ? root.dataset.preset : preset + "s"); }
    else {
      q.searchParams.delete("range");
      q.searchParams.set("from", new Date(win.from * 1000).toISOString().slice(0, 19) + "Z");
      q.searchParams.set("to", new Date(win.to * 1000).toISOString().slice(0, 19) + "Z");
    }
    history.replaceState(null, "", q);
    document.querySelectorAll("[data-window]").forEach(function (el) { el.textContent = when(win.from) + " to " + when(win.to); });
    document.querySelectorAll(".seg.ranges a").forEach(function (a) { if (preset && Number(a.dataset.range) === preset) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current"); });
    var back = document.getElementById("zoom-back");
    if (back) back.hidden = preset === start.preset && (preset > 0 || win.from === start.from);
  }
  // go shows another window: at once with what is known, then with the numbers of that window.
  function go(from, to, back) {
    if (to - from < 60) { var mid = (from + to) / 2; from = mid - 30; to = mid + 30; }
    win.from = Math.round(from);
    win.to = Math.round(to);
    preset = back;
    charts.forEach(function (c) { if (c.u) { c.u.setScale("x", { min: win.from, max: win.to }); if (c.seen) want(c); else c.data = null; } });
    links();
  }
  function reset() {
    if (start.preset) { var now = Math.floor(window.heartwoodNow() / 1000); go(now - start.preset, now, start.preset); } else go(start.from, start.to, 0);
  }
  var zoomBack = document.getElementById("zoom-back");
  if (zoomBack) zoomBack.addEventListener("click", reset);

  document.addEventListener("keydown", function (e) {
    if (e.target.closest && e.target.closest("input, select, textarea, dialog, [role=tablist]") || e.ctrlKey || e.metaKey || e.altKey) return;
    var by = (win.to - win.from) / 4;
    if (e.key === "ArrowLeft") { e.preventDefault(); go(win.from - by, win.to - by, 0); }
    if (e.key === "ArrowRight") {
      var now = window.heartwoodNow() / 1000;
      if (win.to >= now) return;
      e.preventDefault();
      by = Math.min(by, now - win.to);
      go(win.from + by, win.to + by, 0);
    }
  });

  // Each minute the new points are added. A fixed window that has ended needs none.
  setInterval(function () {
    if (document.hidden) return;
    var now = Math.floor(window.heartwoodNow() / 1000), ready = charts.filter(function (c) { return c.seen && c.data; });
    if (preset) { win.from = now - preset; win.to = now; } else if (win.to < now - 120) return;
    var groups = {};
    ready.forEach(function (c) { (groups[c.data.step] = groups[c.data.step] || []).push(c); });
    Object.keys(groups).forEach(function (step) {
      var list = groups[step], back = 5 * step, last = Math.min.apply(null, list.map(function (c) { return c.data.t.length ? c.data.t[c.data.t.length - 1] : win.from; }));
      for (var i = 0; i < list.length; i += 6) ask(list.slice(i, i + 6), Math.max(win.from, last - back), Math.min(win.to, now), Number(step), true);
    });
  }, 60000);

  var watch = new IntersectionObserver(function (list) {
    list.forEach(function (e) {
      var c = charts.find(function (x) { return x.el === e.target; });
      if (!c) return;
      c.seen = e.isIntersecting || c.seen;
      if (e.isIntersecting && !c.data) want(c);
    });
  }, { rootMargin: "300px" });
  root.querySelectorAll(".chart").forEach(function (el) { var c = new Chart(el); charts.push(c); watch.observe(el); });

  var lastWidth = 0;
  new ResizeObserver(function () {
    if (root.clientWidth === lastWidth) return;
    lastWidth = root.clientWidth;
    charts.forEach(function (c) { if (c.u) c.u.setSize({ width: Math.max(120, c.plot.clientWidth), height: c.plot.clientHeight }); });
  }).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { readLook(); charts.forEach(function (c) { if (c.data) c.build(); }); });

  // Menu of a chart: link, picture, numbers.
  root.addEventListener("click", function (e) {
    var b = e.target.closest("[data-act]");
    if (!b) return;
    var c = charts.find(function (x) { return x.el.contains(b); });
    if (!c) return;
    if (b.dataset.act === "png" && c.u) {
      var a = document.createElement("a");
      a.download = c.id + ".png";
      a.href = c.u.ctx.canvas.toDataURL("image/png");
      a.click();
    }
    if (b.dataset.act === "csv" || b.dataset.act === "link") {
      var q = new URL(b.dataset.act === "csv" ? url : location.href, location.href);
      q.searchParams.set("charts", c.id);
      q.searchParams.delete("range");
      q.searchParams.set("from", new Date(win.from * 1000).toISOString().slice(0, 19) + "Z");
      q.searchParams.set("to", new Date(win.to * 1000).toISOString().slice(0, 19) + "Z");
      if (b.dataset.act === "csv") q.searchParams.set("format", "csv");
      location.href = q;
    }
    if (b.dataset.act === "alert") {
      var to = new URL(root.dataset.alert, location.href);
      to.searchParams.set("metric", b.dataset.metric);
      location.href = to;
    }
    b.closest("details").open = false;
  });
  root.querySelectorAll("[data-act=alert]").forEach(function (b) {
    b.hidden = !root.dataset.alert && !root.dataset.alertWhy;
    b.disabled = !root.dataset.alert;
    b.title = root.dataset.alertWhy || "";
  });

  // Member chips of a cluster page switch a member off on every chart.
  document.querySelectorAll("[data-member]").forEach(function (box) {
    box.addEventListener("change", function () {
      members[box.dataset.member] = box.checked;
      charts.forEach(function (c) {
        if (!c.u) return;
        c.data.series.forEach(function (s, n) {
          if (s.name !== box.dataset.member) return;
          c.u.setSeries(n + 1, { show: box.checked });
          if (c.legend.children[n]) c.legend.children[n].setAttribute("aria-pressed", String(box.checked));
        });
      });
    });
  });
  links();
})();
