/** Orders by the time of placing: bars that drift to the left as time passes. */

import { element, svg } from "./dom.js";
import { clock, number } from "./format.js";

const MARGIN = { top: 12, right: 2, bottom: 22, left: 34 };
const VISIBLE = 59; // of sixty: the bucket under way comes in at the right as the oldest leaves
const PERIODS = {
  5: { title: "Orders per 5 seconds", span: "5 minutes", marks: ["−5 min", "−4", "−3", "−2", "−1", "now"] },
  60: { title: "Orders per minute", span: "hour", marks: ["−60 min", "−45", "−30", "−15", "now"] },
};

export class RateChart {
  #host = document.getElementById("chart");
  #title = document.getElementById("rate-title");
  #pace = document.getElementById("rate-now");
  #buttons = [...document.querySelectorAll("[data-bucket]")];
  #tip = element("p", { class: "tip", hidden: "" });
  #seconds = 5;
  #rates = [];
  #lead = 0;
  #canvas = null;

  constructor() {
    for (const button of this.#buttons) {
      button.addEventListener("click", () => this.#choose(Number(button.dataset.bucket)));
    }
    this.#host.addEventListener("pointermove", (event) => this.#point(event));
    this.#host.addEventListener("pointerleave", () => { this.#tip.hidden = true; });
    new ResizeObserver(() => this.#begin()).observe(this.#host);
    setInterval(() => this.#canvas?.drift(this.#now), 1000);
  }

  /** `at` is the server's time of the snapshot: its clock counts, not the browser's. */
  show(rates, at) {
    this.#rates = rates;
    this.#lead = new Date(at) - Date.now();
    this.#pace.textContent = `${number(lastMinute(rates))} in the last minute`;
    if (this.#canvas) this.#canvas.draw(this.#rate, this.#now);
    else this.#begin();
  }

  get #rate() {
    return this.#rates.find((rate) => rate.bucket_seconds === this.#seconds);
  }

  get #now() {
    return Date.now() + this.#lead;
  }

  #choose(seconds) {
    this.#seconds = seconds;
    for (const button of this.#buttons) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.bucket) === seconds));
    }
    this.#title.textContent = PERIODS[seconds].title;
    this.#begin();
  }

  #begin() {
    if (!this.#rate || !this.#host.clientWidth) return;
    this.#canvas = new Canvas(this.#host.clientWidth, this.#host.clientHeight, this.#rate);
    this.#host.replaceChildren(this.#canvas.root, this.#tip);
    this.#canvas.draw(this.#rate, this.#now);
  }

  #point({ clientX }) {
    const x = clientX - this.#host.getBoundingClientRect().left;
    const bucket = this.#canvas?.bucketAt(x, this.#rate, this.#now);
    this.#tip.hidden = !bucket;
    if (!bucket) return;
    const cancelled = bucket.cancelled ? `, ${number(bucket.cancelled)} cancelled` : "";
    this.#tip.textContent = `${clock(bucket.begins)} · ${number(bucket.placed)} placed${cancelled}`;
    this.#tip.style.left = `${Math.min(Math.max(x, 80), this.#host.clientWidth - 80)}px`;
  }
}

function lastMinute(rates) {
  const finest = rates.reduce((a, b) => (a.bucket_seconds < b.bucket_seconds ? a : b));
  const latest = finest.placed.slice(-60 / finest.bucket_seconds);
  return latest.reduce((total, placed) => total + placed, 0);
}

/** One drawing at one size for one period; a bar keeps its place in time, and the whole moves. */
class Canvas {
  constructor(width, height, rate) {
    this.size = rate.bucket_seconds * 1000;
    this.origin = Date.parse(rate.start);
    this.right = width - MARGIN.right;
    this.base = height - MARGIN.bottom;
    this.step = (this.right - MARGIN.left) / VISIBLE;
    this.period = PERIODS[rate.bucket_seconds];
    this.bars = new Map();
    this.grid = svg("g", { class: "grid" });
    this.moving = svg("g", { class: "moving" });
    const clip = svg("clipPath", { id: "plot" },
      svg("rect", { x: MARGIN.left, y: 0, width: this.right - MARGIN.left, height: this.base }));
    this.root = svg("svg", { role: "img", width, height }, clip, this.grid,
      svg("g", { "clip-path": "url(#plot)" }, this.moving), this.#marks());
  }

  draw(rate, now) {
    const highest = Math.max(...rate.placed);
    this.top = roundUp(highest);
    this.#drawGrid();
    const start = Date.parse(rate.start);
    for (const begins of this.bars.keys()) if (begins < start) this.#remove(begins);
    rate.placed.forEach((placed, index) =>
      this.#drawBar(start + index * this.size, placed, rate.cancelled[index]));
    const sum = rate.placed.reduce((total, placed) => total + placed, 0);
    this.root.setAttribute("aria-label",
      `${sum} orders in the last ${this.period.span}, at most ${highest} in one bar`);
    this.drift(now);
  }

  drift(now) {
    const offset = (VISIBLE - (now - this.origin) / this.size) * this.step;
    this.moving.style.transform = `translateX(${offset.toFixed(2)}px)`;
  }

  bucketAt(x, rate, now) {
    const time = now - ((this.right - x) / this.step) * this.size;
    const index = Math.floor((time - Date.parse(rate.start)) / this.size);
    if (x < MARGIN.left || !(index in rate.placed)) return null;
    const begins = Date.parse(rate.start) + index * this.size;
    return { begins, placed: rate.placed[index], cancelled: rate.cancelled[index] };
  }

  #drawBar(begins, placed, cancelled) {
    if (!placed) return this.#remove(begins);
    if (!this.bars.has(begins)) this.bars.set(begins, this.#bar(begins));
    const [kept, lost] = this.bars.get(begins).children;
    const y = this.#y(placed);
    const divide = this.#y(placed - cancelled);
    place(kept, divide, this.base - divide);
    place(lost, y, divide - y);
  }

  #bar(begins) {
    const x = MARGIN.left + ((begins - this.origin) / this.size + 0.15) * this.step;
    const shape = { x, width: this.step * 0.7, y: this.base, height: 0, rx: Math.min(2, this.step / 4) };
    const bar = svg("g", {}, svg("rect", { ...shape, class: "placed" }), svg("rect", { ...shape, class: "cancelled" }));
    this.moving.append(bar);
    return bar;
  }

  #remove(begins) {
    this.bars.get(begins)?.remove();
    this.bars.delete(begins);
  }

  #y(count) {
    return this.base - (count / this.top) * (this.base - MARGIN.top);
  }

  #drawGrid() {
    const lines = [0, this.top / 2, this.top].flatMap((count) => {
      const y = this.#y(count);
      return [
        svg("line", { x1: MARGIN.left, x2: this.right, y1: y, y2: y }),
        svg("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, number(count)),
      ];
    });
    this.grid.replaceChildren(...lines);
  }

  #marks() {
    const { marks } = this.period;
    const width = this.right - MARGIN.left;
    return svg("g", { class: "marks" }, ...marks.map((mark, index) => {
      const anchor = { 0: "start", [marks.length - 1]: "end" }[index] ?? "middle";
      const x = MARGIN.left + (width * index) / (marks.length - 1);
      return svg("text", { x, y: this.base + 17, "text-anchor": anchor }, mark);
    }));
  }
}

function place(rectangle, y, height) {
  rectangle.setAttribute("y", y);
  rectangle.setAttribute("height", Math.max(height, 0));
}

/** The next of 2, 4, 10, 20, 40, 100 …: even, so that half of it is a whole number too. */
function roundUp(count) {
  let unit = 1;
  while (unit * 10 < count) unit *= 10;
  return [2, 4, 6, 10].map((factor) => factor * unit).find((top) => top >= count);
}
