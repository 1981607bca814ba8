/** The feed of events, newest on top; a line that belongs to an order opens its journey. */

import { element, sign } from "./dom.js";
import { clock, money, shortId } from "./format.js";

export class Feed {
  #list = document.getElementById("feed");
  #empty = document.getElementById("feed-empty");
  #pause = document.getElementById("pause");
  #newest = 0;
  #first = true;
  #waiting = null;

  constructor(openJourney) {
    this.#list.addEventListener("click", ({ target }) => {
      const line = target.closest("button");
      if (line) openJourney(line.dataset.order);
    });
    this.#list.addEventListener("keydown", (event) => this.#walk(event));
    this.#pause.addEventListener("click", () => this.#toggle());
  }

  show(happenings) {
    if (this.#isPaused) {
      this.#waiting = happenings;
      this.#label(happenings.filter((each) => each.sequence > this.#newest).length);
      return;
    }
    const fresh = happenings.filter((each) => each.sequence > this.#newest);
    if (fresh.length) {
      this.#newest = fresh[0].sequence;
      this.#list.prepend(...fresh.map((each) => line(each, !this.#first)));
      while (this.#list.children.length > happenings.length) this.#list.lastElementChild.remove();
    }
    this.#first = false;
    this.#empty.hidden = this.#list.children.length > 0;
    this.#keepOneTabStop();
  }

  get #isPaused() {
    return this.#pause.getAttribute("aria-pressed") === "true";
  }

  #toggle() {
    const waiting = this.#waiting;
    this.#pause.setAttribute("aria-pressed", String(!this.#isPaused));
    this.#waiting = null;
    this.#label(0);
    if (waiting && !this.#isPaused) this.show(waiting);
  }

  #label(missed) {
    if (!this.#isPaused) this.#pause.textContent = "Pause";
    else this.#pause.textContent = missed ? `Resume, ${missed} new` : "Resume";
  }

  /** Tab leaves the list after one stop; the arrow keys walk in it. */
  #keepOneTabStop(current = this.#list.querySelector("button:focus") ?? this.#buttons[0]) {
    for (const button of this.#buttons) button.tabIndex = button === current ? 0 : -1;
  }

  get #buttons() {
    return [...this.#list.querySelectorAll("button")];
  }

  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = step && this.#buttons[this.#buttons.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    this.#keepOneTabStop(next);
    next.focus();
  }
}

function line({ topic, order_id: order, phrase, amount, currency, occurred_at: at }, arrives) {
  const content = [
    sign(topic),
    element("span", { class: "phrase" }, phrase),
    element("span", { class: "amount" }, amount === null ? "" : money(amount, currency)),
    element("code", { class: "topic" }, topic),
    element("span", { class: "meta" },
      element("code", {}, order ? shortId(order) : ""),
      element("time", { datetime: at }, clock(at))),
  ];
  const row = order
    ? element("button", { type: "button", class: "line", "data-order": order }, ...content)
    : element("div", { class: "line" }, ...content);
  return element("li", arrives ? { class: "arrives" } : {}, row);
}
