/** The drawer with one order's journey. The order is in the address, so that it can be shared. */

import { element, sign } from "./dom.js";
import { clock, dateTime, duration, money, shortId } from "./format.js";

const PREFIX = "#order=";

export class Journey {
  #dialog = document.getElementById("journey");
  #title = document.getElementById("journey-title");
  #body = document.getElementById("journey-body");
  #order = null;
  #seen = 0;
  #loading = false;

  constructor() {
    document.getElementById("journey-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#leave());
    this.#dialog.addEventListener("click", ({ target }) => {
      if (target === this.#dialog) this.#dialog.close();
    });
    addEventListener("hashchange", () => this.#follow());
    this.#follow();
  }

  open(order) {
    location.hash = PREFIX + order;
  }

  /** Loads the journey again if the feed tells something new of the order. */
  update(happenings) {
    const newest = happenings.find((each) => each.order_id === this.#order)?.sequence ?? 0;
    if (this.#order && newest > this.#seen && !this.#loading) this.#load();
  }

  #follow() {
    const order = location.hash.startsWith(PREFIX) ? location.hash.slice(PREFIX.length) : null;
    if (order === this.#order) return;
    this.#order = order;
    this.#seen = 0;
    if (!order) return this.#dialog.close();
    this.#title.textContent = `…${shortId(order)}`;
    this.#body.replaceChildren();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#load();
  }

  #leave() {
    this.#order = null;
    if (location.hash) history.pushState(null, "", location.pathname);
  }

  async #load() {
    const order = this.#order;
    this.#loading = true;
    try {
      const reply = await fetch(`/api/orders/${encodeURIComponent(order)}`);
      if (order !== this.#order) return;
      if (!reply.ok) this.#say((await reply.json()).detail);
      else this.#show(await reply.json());
    } catch {
      this.#say("The journey could not be loaded.");
    } finally {
      this.#loading = false;
    }
  }

  #say(text) {
    this.#body.replaceChildren(element("p", { class: "empty" }, text));
  }

  #show(order) {
    this.#seen = Math.max(0, ...order.steps.map((step) => step.sequence));
    this.#body.replaceChildren(summary(order), timeline(order.steps));
  }
}

function summary(order) {
  const amount = (value) => (order.currency && value ? money(value, order.currency) : null);
  const facts = {
    Status: element("span", { class: "badge", "data-status": order.status }, order.status),
    Placed: order.placed_at && dateTime(order.placed_at),
    Total: amount(order.total),
    Paid: amount(order.paid),
    Refunded: amount(order.refunded),
    "Tracking number": order.tracking_number && element("code", {}, order.tracking_number),
    "Order id": element("code", {}, order.order_id),
  };
  const known = Object.entries(facts).filter(([, value]) => value);
  const pairs = known.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  return element("dl", { class: "facts" }, ...pairs);
}

function timeline(steps) {
  const begun = steps.length ? new Date(steps[0].occurred_at) : 0;
  const items = steps.map((step, index) => {
    const since = (new Date(step.occurred_at) - begun) / 1000;
    const text = element("div", {},
      element("p", { class: "phrase" }, step.phrase,
        ...(step.amount === null ? [] : [" ", element("span", { class: "amount" }, money(step.amount, step.currency))])),
      element("code", { class: "topic" }, step.topic));
    const times = element("div", { class: "times" },
      element("time", { datetime: step.occurred_at }, clock(step.occurred_at)),
      element("span", { class: "note" }, index ? `+${duration(since)}` : ""));
    return element("li", {}, sign(step.topic), text, times);
  });
  const list = element("ol", { class: "timeline" }, ...items);
  if (steps[0]?.topic === "order.created") return list;
  return element("div", {}, element("p", { class: "note" }, "Earlier steps are not kept."), list);
}
