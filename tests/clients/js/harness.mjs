// What the JavaScript suites share: a namespace that is already running, hubs of their own, and one printed line per case.

import assert from "node:assert/strict";

export const ENDPOINT = process.env.WEIR_ENDPOINT;
const CONTROL = process.env.WEIR_CONTROL;
/** How long anything may take before a case fails, in milliseconds. Nothing waits that long when it works. */
export const PATIENCE = Number(process.env.WEIR_PATIENCE ?? 60) * 1000;

const cases = [];
let hubs = 0;

/** Registers a case; it passes when the promise resolves. */
export const test = (name, run) => cases.push({ name, run });

/** Runs the cases (those named on the command line, or all) and exits. */
export async function main() {
  const wanted = process.argv.slice(2);
  let failed = 0;
  for (const { name, run } of cases.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
    try {
      await within(run(), `the case ${name}`, 2 * PATIENCE);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${String(error?.message ?? error).split(/\s+/).join(" ")}`);
      console.error(error?.stack ?? error);
    } finally {
      await control("DELETE", "/faults");
    }
  }
  // Clients of a failed case may still be open.
  process.exit(failed === 0 ? 0 : 1);
}

/** Calls the namespace's control API. */
export async function control(method, path, body) {
  const options = { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const response = await fetch(`http://${CONTROL}${path}`, options);
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Makes a hub that no other case knows. */
export async function newHub(partitions = 2, groups = undefined) {
  const name = `hub-${process.pid}-${hubs++}`;
  await control("PUT", `/hubs/${name}`, { partitions, ...(groups && { groups }) });
  return name;
}

/** Injects a fault. */
export const fault = (action, at = "now", rest = {}) => control("POST", "/faults", { action, at, ...rest });

export const connectionString = (hub) =>
  `Endpoint=sb://${ENDPOINT};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=bG9jYWw=;` +
  `UseDevelopmentEmulator=true;EntityPath=${hub}`;

/** Rejects when the promise takes too long. */
export function within(promise, what, milliseconds = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${milliseconds} ms for ${what}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until the condition gives something true, and returns it. */
export async function waitFor(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited ${PATIENCE} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const numbered = (count, first = 0) => Array.from({ length: count }, (_, index) => `event ${first + index}`);
