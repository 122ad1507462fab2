// What every page does in the browser: live parts, times that tick, search, keys. Pages work without it.
(function () {
  "use strict";
  var doc = document, body = doc.body;

  // The server renders times in the viewer's zone: tell it which, for the next page.
  try {
    var zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone && doc.cookie.indexOf("hw_tz=" + encodeURIComponent(zone)) < 0) {
      doc.cookie = "hw_tz=" + encodeURIComponent(zone) + "; path=/; max-age=31536000; SameSite=Lax";
    }
  } catch (e) { /* an old browser: times stay in UTC */ }

  // The server's clock, so that "12 s ago" is right on a machine whose clock is not.
  var offset = Number(body.dataset.now || Date.now()) - Date.now();
  window.heartwoodNow = function () { return Date.now() + offset; };

  function ago(ms) {
    var s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return s + " s ago";
    if (s < 3600) return Math.floor(s / 60) + " min ago";
    if (s < 172800) return Math.floor(s / 3600) + " h ago";
    return Math.floor(s / 86400) + " d ago";
  }
  function tick() {
    var now = window.heartwoodNow();
    doc.querySelectorAll("time[data-ago]").forEach(function (t) {
      var text = ago(now - Number(t.dataset.ago));
      if (t.textContent !== text) t.textContent = text;
    });
  }
  setInterval(tick, 5000);

  // Live parts: every element with data-every asks again while the page is looked at.
  var say = doc.getElementById("live-note"), lostAt = null;
  function clock() { return new Date().toLocaleTimeString(); }
  function lost(why) {
    if (!lostAt) lostAt = clock();
    if (say) say.textContent = why + " since " + lostAt + ". What you see is older than that; trying again.";
  }
  function found() { if (lostAt && say) say.textContent = ""; lostAt = null; }
  window.heartwoodLost = lost;
  window.heartwoodFound = found;
  // A refresh leaves alone what the reader opened or chose.
  if (window.Idiomorph) {
    window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = function (name, node) {
      return !(name === "open" && node.tagName === "DETAILS" || name === "class" && node.tagName === "TR" && node.classList.contains("sel"));
    };
  }
  function busy(el) {
    var a = doc.activeElement;
    return a && a !== body && el.contains(a) && a.matches("input, select, textarea");
  }
  var due = new WeakMap();
  setInterval(function () {
    if (doc.hidden) return;
    doc.querySelectorAll("[data-every]").forEach(function (el) {
      var at = due.get(el);
      if (at === undefined) { due.set(el, Date.now() + el.dataset.every * 1000); return; }
      if (Date.now() < at || busy(el)) return;
      due.set(el, Date.now() + el.dataset.every * 1000);
      if (window.htmx) window.htmx.trigger(el, "refresh");
    });
  }, 1000);
  body.addEventListener("htmx:sendError", function () { lost("No answer from the server"); });
  body.addEventListener("htmx:responseError", function (e) { lost("The server answers " + e.detail.xhr.status); });
  body.addEventListener("htmx:afterOnLoad", function (e) {
    if (e.detail.xhr.status < 400) found();
    tick();
  });

  // Copy buttons.
  doc.addEventListener("click", function (e) {
    var b = e.target.closest("[data-copy]");
    if (!b) return;
    var from = doc.getElementById(b.dataset.copy);
    if (!from) return;
    var text = from.textContent, done = function () {
      var was = b.textContent;
      b.textContent = "Copied";
      setTimeout(function () { b.textContent = was; }, 1500);
    };
    var byHand = function () { // clipboard access needs https: select and use the old command
      var r = doc.createRange();
      r.selectNodeContents(from);
      var s = getSelection();
      s.removeAllRanges();
      s.addRange(r);
      if (doc.execCommand("copy")) done();
    };
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, byHand);
    else byHand();
  });

  // Names that are shortened on the page copy whole.
  doc.addEventListener("copy", function (e) {
    var sel = getSelection(), text = sel.toString(), whole = text;
    doc.querySelectorAll(".cut[title]").forEach(function (el) { if (sel.containsNode(el, true)) whole = whole.split(el.textContent).join(el.title); });
    if (whole !== text) { e.clipboardData.setData("text/plain", whole); e.preventDefault(); }
  });

  // Menus close when something else is chosen.
  doc.addEventListener("click", function (e) {
    doc.querySelectorAll("details.menu[open]").forEach(function (d) { if (!d.contains(e.target)) d.open = false; });
    var results = doc.getElementById("find-results");
    if (results && !e.target.closest(".find")) results.textContent = "";
  });

  // Selects that act at once.
  doc.addEventListener("change", function (e) {
    if (e.target.matches("[data-submit]")) e.target.form.requestSubmit();
  });

  // Keys.
  var search = doc.getElementById("find"), help = doc.getElementById("keys"), first = "";
  function typing(el) { return el.closest && el.closest("input, select, textarea, dialog"); }
  function rows() { return Array.prototype.slice.call(doc.querySelectorAll(".content tbody tr")).filter(function (r) { return r.querySelector("a"); }); }
  function step(by) {
    var all = rows(), at = all.findIndex(function (r) { return r.classList.contains("sel"); });
    if (!all.length) return;
    var next = all[Math.min(all.length - 1, Math.max(0, at + by))];
    if (at >= 0) all[at].classList.remove("sel");
    next.classList.add("sel");
    next.querySelector("a").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  doc.addEventListener("keydown", function (e) {
    var results = doc.getElementById("find-results");
    if (e.target === search) {
      if (e.key === "Escape") { search.value = ""; results.textContent = ""; search.blur(); }
      if (e.key === "ArrowDown") { var a = results.querySelector("a"); if (a) { e.preventDefault(); a.focus(); } }
      return;
    }
    if (results && results.contains(e.target) && (e.key === "ArrowDown" || e.key === "ArrowUp")) {
      var links = Array.prototype.slice.call(results.querySelectorAll("a")), i = links.indexOf(e.target) + (e.key === "ArrowDown" ? 1 : -1);
      e.preventDefault();
      (links[i] || search).focus();
      return;
    }
    if (e.key === "Escape") doc.querySelectorAll("details.menu[open]").forEach(function (d) { d.open = false; });
    if (e.ctrlKey || e.metaKey || e.altKey || typing(e.target)) return;
    if (first === "g") {
      first = "";
      var to = doc.querySelector('[data-go="' + CSS.escape(e.key) + '"]');
      if (to) { e.preventDefault(); location.href = to.href; }
      return;
    }
    if (e.key === "g") { first = "g"; setTimeout(function () { first = ""; }, 1200); return; }
    if (e.key === "/" && search) { e.preventDefault(); search.focus(); search.select(); }
    if (e.key === "?" && help) { e.preventDefault(); help.showModal(); }
    if (e.key === "j") step(1);
    if (e.key === "k") step(-1);
  });
  doc.querySelectorAll("[data-help]").forEach(function (b) { b.addEventListener("click", function () { if (help) help.showModal(); }); });
})();
