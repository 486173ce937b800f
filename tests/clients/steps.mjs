// What a client could do, as one JSON line: {step: "ok" or why not}.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Collects the verdicts; a step that fails or hangs does not keep the next from running. */
export class Steps {
  verdicts = {};

  /** `seconds` is what a step may take. */
  constructor(seconds = 10) {
    this.seconds = seconds;
  }

  async step(name, body) {
    const late = new AbortController();
    const deadline = sleep(this.seconds * 1000, null, { signal: late.signal }).then(() => {
      throw new Error(`not done within ${this.seconds} s`);
    });
    try {
      await Promise.race([body(), deadline]);
      this.verdicts[name] = 'ok';
    } catch (error) {
      this.verdicts[name] = `${error.name}: ${error.message}`;
    } finally {
      late.abort();
      deadline.catch(() => {});
    }
    return this.verdicts[name] === 'ok';
  }

  print() {
    console.log(JSON.stringify(this.verdicts));
  }
}

const LONGEST_OF_A_LOGIN = 10;

/** Milliseconds until a token of a login (6 s) has ended, which ends then (Unix time); 0 for one that has taken its place (60 s). */
export function timeLeft(expires) {
  const left = expires - Date.now() / 1000;
  return left > LONGEST_OF_A_LOGIN ? 0 : (Math.max(0, left) + 1) * 1000;
}

/** A fetch that keeps the `Last-Event-ID` headers that went out. */
export function watchingFetch(lastEventIds) {
  return (url, options) => {
    const last = new Headers(options?.headers).get('last-event-id');
    if (last) lastEventIds.push(last);
    return fetch(url, options);
  };
}

export const textOf = (result) => result.content.map((block) => block.text ?? '').join('');

/** The steps after `connect`, for both generations of the client; `client` adapts what differs between them. */
export async function converse(steps, client) {
  const call = async (name, args = {}, options = {}) => textOf(await client.call(name, args, options));

  await steps.step('list', async () => {
    const names = (await client.listTools()).map((tool) => tool.name);
    assert(names.includes('add'), `no tool "add" in ${names}`);
  });
  await steps.step('call', async () => assert.equal(await call('add', { a: 1, b: 2 }), '3'));
  await steps.step('progress', async () => {
    let got, calls = 0;
    do {
      assert(++calls <= 20, `the first two of three steps of progress never came; at last: ${got}`);
      got = [];
      await call('test_tool_with_progress', {}, { onprogress: ({ progress }) => got.push(progress) });
      // Of messages that come in one read, this client handles the result first and then drops the progress in front of it. On a
      // busy machine all may come in one.
      assert.deepEqual(got, [0, 50, 100].slice(0, client.losesLastProgress ? got.length : 3));
    } while (client.losesLastProgress && got.length < 2);
  });
  await steps.step('notification', async () => {
    const listening = await client.listen();
    await call('test_trigger_tool_change');
    await client.toolsChanged;
    await listening?.close();
  });
  await steps.step('elicitation', async () => {
    const answer = await call('test_elicitation', { message: 'Who are you?' });
    assert.deepEqual(client.questions, ['Who are you?']);
    assert(answer.includes('accept') && answer.includes('ada'), answer);
  });
  if (client.resumes) {
    await steps.step('resume', async () => {
      const before = client.lastEventIds.length;
      assert(await call('test_reconnection'), 'no answer');
      assert(client.lastEventIds.length > before, 'the stream was never cut: no request carried Last-Event-ID');
    });
  }
  await steps.step('cancellation', async () => {
    const before = Number(await call('cancelled_count'));
    const stop = new AbortController();
    const slow = call('slow', { seconds: 30 }, { signal: stop.signal });
    setTimeout(() => stop.abort('the test says so'), 1000);
    await assert.rejects(slow);
    while (Number(await call('cancelled_count')) === before) await sleep(50);
  });
}

/** A session that was ended must be unknown to the server. */
export async function assertForgotten(url, sessionId) {
  assert(sessionId, 'the server gave no session id');
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': sessionId,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
  });
  assert.equal(answer.status, 404, `after the close the session answers ${answer.status}`);
}

/** `close` must end the call of `slow` that runs, as another client sees it. */
export async function assertCancelled(call, close) {
  const count = async () => Number(textOf(await call('cancelled_count')));
  const before = await count();
  await close();
  while ((await count()) === before) await sleep(50);
}
