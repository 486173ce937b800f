// Many connections of one client, as one JSON line of verdicts.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

const CALLS = 3;
const AT_ONCE = 5;
const CONNECTION_MS = 30_000;
const STEP_MS = 20_000;
const ROUNDS = 30;
const NODES = ['node1', 'node2', 'node3'];
export const ALL_URIS = NODES.map((node) => `rig://from/${node}`);

/** Every request has a connection of its own, and no cookie: Node's fetch keeps none. */
export const freshFetch = (url, options = {}) => {
  const headers = new Headers(options.headers);
  headers.set('connection', 'close');
  return fetch(url, { ...options, headers });
};

async function within(ms, body) {
  const late = new AbortController();
  const deadline = sleep(ms, null, { signal: late.signal }).then(() => {
    throw new Error(`not done within ${ms / 1000} s`);
  });
  try {
    return await Promise.race([body(), deadline]);
  } finally {
    late.abort();
    deadline.catch(() => {});
  }
}

/** How many of `count` connections had all their calls answered, by one session, and what went wrong with the others. */
async function connections(connect, count) {
  let good = 0;
  let next = 0;
  const faults = [];
  const one = async () => {
    const client = await connect();
    const told = [];
    for (let call = 0; call < CALLS; call += 1) told.push(await client.told('where'));
    await client.close();
    assert.equal(new Set(told.map((answer) => answer.session)).size, 1, `not one session: ${JSON.stringify(told)}`);
  };
  const worker = async () => {
    while (next < count) {
      next += 1;
      try {
        await within(CONNECTION_MS, one);
        good += 1;
      } catch (error) {
        faults.push(`${error.name}: ${error.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { good, of: count, faults };
}

async function verdict(step) {
  try {
    await within(STEP_MS, step);
    return 'ok';
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}

/** Have every node announce itself, and wait until all were heard: at least two are not the client's own. */
async function allAnnounced(url, heard) {
  const announced = new Set();
  for (let round = 0; round < ROUNDS && announced.size < NODES.length; round += 1) {
    const answer = await freshFetch(new URL('/announce', url), { method: 'POST' });
    announced.add((await answer.json()).node);
  }
  assert.deepEqual([...announced].sort(), NODES);
  while (!ALL_URIS.every((uri) => heard.includes(uri))) await sleep(20);
}

/**
 * `connect(heard, asked)` gives `{told(tool), subscribe(uris), close()}`; the URIs it hears of go to `heard`, the nodes
 * that ask it something to `asked`.
 */
export async function main(connect, { modern }) {
  const [, , url, , count] = process.argv;
  const notification = async () => {
    const heard = [];
    const client = await connect(heard, []);
    await client.subscribe(ALL_URIS);
    await allAnnounced(url, heard);
    await client.close();
  };
  const elicitation = async () => {
    const asked = [];
    const client = await connect([], asked);
    for (let round = 0; round < 10; round += 1) {
      const answered = await client.told('ask');
      assert.equal(answered.name, 'ada');
      if (answered.node !== asked.at(-1)) return client.close();
    }
    throw new Error(`the answer never met another node than ${new Set(asked)}`);
  };
  const verdicts = {
    connections: await connections(() => connect([], []), Number(count)),
    notification: await verdict(notification),
    elicitation: modern ? await verdict(elicitation) : '-',
  };
  console.log(JSON.stringify(verdicts));
  process.exit(0);
}
