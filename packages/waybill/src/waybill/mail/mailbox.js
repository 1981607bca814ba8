"use strict";

const SHOWN = 100;
const POLL_MS = 2000;
const byId = (id) => document.getElementById(id);

let newest = 0;
let opened = null;

async function request(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

function when(message) {
  const time = new Date(message.received_at);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

function rowOf(message) {
  const row = byId("row").content.cloneNode(true).firstElementChild;
  row.dataset.id = message.id;
  row.querySelector(".to").textContent = message.to.join(", ");
  row.querySelector(".subject").textContent = message.subject || "(no subject)";
  const time = row.querySelector("time");
  time.dateTime = message.received_at;
  time.textContent = when(message);
  row.querySelector("button").addEventListener("click", () => { location.hash = message.id; });
  return row;
}

function mark() {
  for (const row of byId("messages").children) {
    row.firstElementChild.setAttribute("aria-current", row.dataset.id === opened);
  }
}

function show(message) {
  byId("subject").textContent = message.subject || "(no subject)";
  byId("from").textContent = message.from;
  byId("to").textContent = message.to.join(", ");
  byId("received").textContent = new Date(message.received_at).toLocaleString();
  byId("html").hidden = message.html === null;
  byId("text").hidden = message.html !== null;
  byId("html").srcdoc = `<base target="_blank">${message.html ?? ""}`;
  byId("text").textContent = message.text;
  byId("hint").hidden = true;
  byId("opened").hidden = false;
}

function close() {
  opened = null;
  byId("hint").hidden = false;
  byId("opened").hidden = true;
  mark();
}

async function open() {
  const id = location.hash.slice(1);
  if (!/^\d+$/.test(id)) return close();
  opened = id;
  mark();
  try {
    show(await (await request(`/api/messages/${id}`)).json());
  } catch {
    close();
  }
}

async function load() {
  const query = new URLSearchParams({ limit: SHOWN });
  if (byId("search").value) query.set("q", byId("search").value);
  const { items, total } = await (await request(`/api/messages?${query}`)).json();
  byId("messages").replaceChildren(...items.map(rowOf));
  byId("total").textContent = total;
  newest = items.length ? items[0].id : 0;
  mark();
}

/** Reload only when there is something new, so that the list keeps its place otherwise. */
async function poll() {
  try {
    const query = new URLSearchParams({ limit: 1, after: newest });
    if (byId("search").value) query.set("q", byId("search").value);
    if (!document.hidden && (await (await request(`/api/messages?${query}`)).json()).total) await load();
  } catch {
    // The sink is being restarted: the next turn finds it again.
  }
  setTimeout(poll, POLL_MS);
}

byId("search").addEventListener("input", load);
byId("clear").addEventListener("click", async () => {
  await request("/api/messages", { method: "DELETE" });
  location.hash = "";
  await load();
});
addEventListener("hashchange", open);
load().then(open).finally(poll);
