/** Shows each snapshot that the server pushes. */

import { RateChart } from "./chart.js";
import { element } from "./dom.js";
import { Feed } from "./feed.js";
import { ago, duration, number, percentage, roundMoney } from "./format.js";
import { Journey } from "./journey.js";

const UNKNOWN = "–";
const SILENCE_MILLISECONDS = 10_000; // the server sends every two seconds, change or not

const chart = new RateChart();
const journey = new Journey();
const feed = new Feed((order) => journey.open(order));

function show(snapshot) {
  showFigures(snapshot.figures);
  showStatuses(snapshot.orders);
  showStock(snapshot.stock_at_risk, snapshot.at);
  chart.show(snapshot.rates, snapshot.at);
  feed.show(snapshot.feed);
  journey.update(snapshot.feed);
}

/** Writes the text; true if another one stood there before. */
function write(id, text) {
  const target = document.getElementById(id);
  const before = target.textContent;
  if (before !== text) target.textContent = text;
  return before !== text && before !== UNKNOWN;
}

function showFigures(figures) {
  const { seconds_to_tracking_number: seconds, cancelled_share: share, paid } = figures;
  write("figure-orders", number(figures.orders));
  write("figure-tracking", seconds === null ? UNKNOWN : duration(seconds));
  write("figure-cancelled", share === null ? UNKNOWN : percentage(share));
  const [main, ...others] = paid.map(({ amount, currency }) => roundMoney(amount, currency));
  write("figure-paid", main ?? UNKNOWN);
  write("figure-paid-note", others.length ? `and ${others.join(", ")}` : "less refunds");
}

function showStatuses(orders) {
  for (const [status, count] of Object.entries(orders)) {
    const tile = document.querySelector(`.status[data-status=${status}]`);
    tile.toggleAttribute("data-none", !count);
    if (write(`count-${status}`, number(count))) glow(tile);
    document.querySelector(`.proportions [data-status=${status}]`).style.flexGrow = count;
  }
}

function glow(tile) {
  const ring = (width) => ({ boxShadow: `inset 0 0 0 ${width} color-mix(in srgb, var(--tone) 60%, transparent)` });
  if (matchMedia("(prefers-reduced-motion: no-preference)").matches) {
    tile.animate([ring("2px"), ring("0px")], { duration: 700, easing: "ease-out" });
  }
}

function showStock(skus, at) {
  const items = skus.map(({ sku, name, available, threshold, alerted_at: since }) => {
    const level = element("meter", {
      min: 0, max: Math.max(threshold, 1), value: available,
      "aria-label": `${available} of ${threshold}`,
    });
    return element("li", { "data-tone": available ? "warning" : "bad" },
      element("div", { class: "sku" }, element("strong", {}, name ?? sku), element("code", {}, sku)),
      level,
      element("span", { class: "level" }, element("b", {}, number(available)), ` / ${number(threshold)}`),
      element("time", { datetime: since }, ago((new Date(at) - new Date(since)) / 1000)));
  });
  document.getElementById("stock").replaceChildren(...items);
  document.getElementById("stock-empty").hidden = items.length > 0;
}

function connect() {
  const status = document.getElementById("connection");
  const tell = (state, text) => {
    if (status.dataset.state === state) return;
    status.dataset.state = state;
    status.textContent = text;
  };
  let source;
  let silence;

  function watch() {
    clearTimeout(silence);
    silence = setTimeout(() => tell("stale", "No news"), SILENCE_MILLISECONDS);
  }

  function open() {
    source = new EventSource("/api/stream");
    source.addEventListener("snapshot", ({ data }) => {
      tell("live", "Live");
      watch();
      show(JSON.parse(data));
    });
    source.addEventListener("error", () => {
      tell("lost", "Reconnecting");
      // The browser tries again by itself, except after an answer that was no stream.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    });
  }

  // A page that nobody sees costs the server nothing.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(silence);
    source.close();
    if (!document.hidden) open();
  });
  open();
}

connect();
