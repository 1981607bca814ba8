/** Makes elements without ever parsing text as HTML. */

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The sign of an event: its picture by who tells, its tone by whether it is good news. */
export function sign(topic) {
  const producer = topic.split(".")[0];
  const picture = svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#icon-${producer}` }));
  return element("span", { class: "sign", "data-tone": TONES[topic] ?? producer }, picture);
}

const TONES = {
  "order.cancellation_requested": "bad",
  "order.cancelled": "bad",
  "stock.rejected": "bad",
  "inventory.low_stock": "warning",
  "payment.failed": "bad",
  "payment.refunded": "warning",
  "shipment.voided": "bad",
};
