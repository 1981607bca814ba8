/** How the page writes amounts, times and identifiers. */

const LARGE = 100_000;
const currencies = new Map();

function formatOf(currency, digits) {
  const key = `${currency} ${digits}`;
  const options = { style: "currency", currency, maximumFractionDigits: digits };
  if (!currencies.has(key)) currencies.set(key, new Intl.NumberFormat(undefined, options));
  return currencies.get(key);
}

/** `amount` is in minor units, of which a currency has none, two or three digits. */
export function money(amount, currency) {
  const format = formatOf(currency);
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

/** As `money`, but a large sum is told without its cents. */
export function roundMoney(amount, currency) {
  const value = amount / 10 ** formatOf(currency).resolvedOptions().maximumFractionDigits;
  return value < LARGE ? money(amount, currency) : formatOf(currency, 0).format(value);
}

export const number = new Intl.NumberFormat().format;

export const percentage = new Intl.NumberFormat(undefined, {
  style: "percent", maximumFractionDigits: 1,
}).format;

const clockFormat = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
export const clock = (time) => clockFormat.format(new Date(time));

const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const dateTime = (time) => dateFormat.format(new Date(time));

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function ago(seconds) {
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

/** The end of an order's id: it is random, while its beginning is the time. */
export const shortId = (id) => id.slice(-8);
