
"use strict";
(() => {
  const EVERY_MS = 2000;
  const WITHIN_MS = 10000;
  const MINUTE_MS = 60 * 1000;
  const WINDOW_MS = 10 * MINUTE_MS;
  const WIDTH = 320, HEIGHT = 100, LEFT = 2, TOP = 4, BOTTOM = 88;
  const SVG = "http://www.w3.org/2000/svg";
  const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

  // By the name of a mount: what its section told, at each time.
  const histories = new Map();

  const size = (bytes) => {
    let unit = 0;
    while (bytes >= 1024 && unit < SIZES.length - 1) { bytes /= 1024; unit += 1; }
    return `${bytes < 10 && unit > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${SIZES[unit]}`;
  };
  const pace = (bytes) => `${size(bytes)}/s`;
  const duration = (seconds) => seconds < 1 ? `${+(seconds * 1000).toPrecision(2)} ms` : `${+seconds.toPrecision(2)} s`;
  const percent = (share) => `${Math.round(share)} %`;
  const usd = (amount) => `USD ${amount < 0.1 ? amount.toFixed(3) : amount.toFixed(2)}`;
  const count = (number) => `${+number.toPrecision(2)}`;

  // Each value between two samples; null where it is not known.
  const difference = (before, after, name) => after[name] >= before[name] ? after[name] - before[name] : null;
  const seconds = (before, after) => (after.at_ms - before.at_ms) / 1000;
  const rate = (name) => (before, after) => {
    const moved = difference(before, after, name);
    return moved === null ? null : moved / seconds(before, after);
  };
  const within = (name, share) => (before, after) => {
    const counts = after[name].map((all, at) => all - (before[name][at] ?? 0));
    const wanted = Math.max(1, counts.reduce((sum, it) => sum + it, 0) * share);
    let seen = 0;
    for (const [at, number] of counts.entries()) {
      seen += number;
      if (number > 0 && seen >= wanted) { return after.bounds[at] ?? after.bounds.at(-1); }
    }
    return null;
  };
  const hits = (before, after) => {
    const [hit, missed] = [difference(before, after, "hits"), difference(before, after, "misses")];
    return hit + missed > 0 ? 100 * hit / (hit + missed) : null;
  };
  const perDay = (before, after) => {
    const spent = difference(before, after, "usd");
    return spent === null ? null : spent / seconds(before, after) * 86400;
  };

  const PLOTS = {
    throughput: { format: pace, lines: [["read", rate("read_bytes")], ["written", rate("written_bytes")], ["from S3", rate("received_bytes")], ["to S3", rate("sent_bytes")]] },
    latency: { format: duration, lines: [["calls, half", within("calls", 0.5)], ["calls, 99 %", within("calls", 0.99)], ["S3, half", within("requests", 0.5)], ["S3, 99 %", within("requests", 0.99)]] },
    hits: { format: percent, most: 100, lines: [["hit rate", hits]] },
    pending: { format: size, lines: [["bytes not in S3", (_, after) => after.unsent_bytes]] },
    s3: { format: count, band: true, lines: [["failed requests a second", rate("failed")]] },
    cost: { format: usd, lines: [["a day, at this pace", perDay]] },
  };

  const element = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) { made.setAttribute(key, value); }
    return made;
  };

  const series = (history, of) => history.slice(1).map((after, at) => {
    const before = history[at];
    const known = before.pid === after.pid && after.at_ms > before.at_ms;
    return { at: after.at_ms, value: known ? of(before, after) : null };
  });

  const draw = (plot, kind, history) => {
    const { format, lines, most, band } = PLOTS[kind];
    const now = history.at(-1).at_ms;
    // As long as there is something to show.
    const minutes = Math.min(WINDOW_MS / MINUTE_MS, Math.max(1, Math.ceil((now - history[0].at_ms) / MINUTE_MS)));
    const x = (at) => LEFT + (WIDTH - LEFT) * (1 - (now - at) / (minutes * MINUTE_MS));
    const all = lines.map(([, of]) => series(history, of));
    const values = all.flat().map((it) => it.value).filter((it) => it !== null);
    const top = most ?? Math.max(...values, 0);
    const y = (value) => BOTTOM - (BOTTOM - TOP) * (top > 0 ? value / top : 0);
    const last = lines.map(([name], at) => `${name}: ${all[at].at(-1)?.value == null ? "-" : format(all[at].at(-1).value)}`);
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `the last ${minutes} min; ${last.join(", ")}` });
    history.slice(1).forEach((sample, at) => {
      const from = x(history[at].at_ms), wide = Math.max(0.5, x(sample.at_ms) - from);
      if (!sample.serves) { svg.append(element("rect", { class: "outage", x: from, y: TOP, width: wide, height: BOTTOM - TOP })); }
      if (band) { svg.append(element("rect", { class: sample.serves ? "up" : "down", x: from, y: BOTTOM + 3, width: wide + 0.3, height: 5 })); }
    });
    for (const line of [TOP, BOTTOM]) { svg.append(element("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: line, y2: line })); }
    all.forEach((points, at) => {
      let run = [];
      const end = () => {
        if (run.length === 1) { run.push([run[0][0] + 1, run[0][1]]); }
        if (run.length > 1) {
          const line = run.map((it) => it.map((n) => n.toFixed(1)).join(",")).join(" ");
          if (all.length === 1) { svg.append(element("polygon", { class: "area", points: `${run[0][0].toFixed(1)},${BOTTOM} ${line} ${run.at(-1)[0].toFixed(1)},${BOTTOM}` })); }
          svg.append(element("polyline", { class: "abcd"[at], points: line }));
        }
        run = [];
      };
      for (const { at: time, value } of points) { if (value === null) { end(); } else { run.push([x(time), y(value)]); } }
      end();
    });
    const axis = document.createElement("p");
    axis.className = "axis";
    axis.textContent = `${top > 0 ? `up to ${format(top)}` : "nothing"} in the last ${minutes} min`;
    const legend = document.createElement("ul");
    legend.className = "legend";
    last.forEach((text, at) => {
      const item = document.createElement("li");
      item.className = `l${"abcd"[at]}`;
      const inner = document.createElement("span");
      inner.textContent = text;
      item.append(inner);
      legend.append(item);
    });
    plot.replaceChildren(axis, svg, legend);
  };

  const sections = (root) => [...root.querySelectorAll("section.mount")];
  const name = (section) => section.querySelector(".place").textContent;

  const note = (root) => {
    for (const section of sections(root)) {
      const sample = JSON.parse(section.dataset.sample);
      const history = histories.get(name(section)) ?? [];
      history.push(sample);
      while (history.length > 2 && history[0].at_ms < sample.at_ms - WINDOW_MS) { history.shift(); }
      histories.set(name(section), history);
    }
  };

  const plot = () => {
    for (const section of sections(document)) {
      const history = histories.get(name(section));
      for (const tile of section.querySelectorAll("[data-plot]")) { draw(tile.querySelector(".plot"), tile.dataset.plot, history); }
    }
  };

  // What is being copied is not replaced.
  const isSelected = (part) => {
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(part, true);
  };

  const show = (fresh) => {
    document.title = fresh.title;
    const names = (root) => sections(root).map(name).join();
    if (names(fresh) !== names(document) || !!fresh.getElementById("overview") !== !!document.getElementById("overview")) {
      document.querySelector("main").replaceWith(document.importNode(fresh.querySelector("main"), true));
      return;
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now && now.innerHTML !== part.innerHTML && !isSelected(part)) {
        const left = part.querySelector(".scroll")?.scrollLeft ?? 0;
        part.replaceChildren(...document.importNode(now, true).childNodes);
        if (left > 0) { part.querySelector(".scroll")?.scrollTo({ left }); }
      }
    }
  };

  const freshness = document.getElementById("freshness");
  const tell = (text, isOld) => {
    freshness.textContent = text;
    freshness.classList.toggle("old", isOld);
  };

  // Null where nobody answers.
  const ask = async () => {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) });
      return answer.ok ? await answer.text() : null;
    } catch {
      return null;
    }
  };

  const update = async () => {
    const page = await ask();
    setTimeout(update, EVERY_MS);
    if (page === null) {
      tell("The daemon does not answer: this is what it said last.", true);
      return;
    }
    const fresh = new DOMParser().parseFromString(page, "text/html");
    note(fresh);
    show(fresh);
    plot();
    tell(`live, ${fresh.getElementById("freshness").textContent}`, false);
  };

  note(document);
  plot();
  setTimeout(update, EVERY_MS);
})();
