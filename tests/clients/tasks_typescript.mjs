// The official requester of tasks on the TypeScript client 2.4: `tasks_typescript.mjs URL [timed]`; with `timed`, only the steps that are.
import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { createTaskSessionFromClient, resultFromTaskOutcome } from '@modelcontextprotocol/ext-tasks/client';
import { Steps, textOf } from './steps.mjs';

const [, , address, only] = process.argv;
const quickSeconds = 3;
const clientInfo = { name: 'ext-tasks', version: '0' };
const clientCapabilities = { elicitation: { form: {} }, extensions: { 'io.modelcontextprotocol/tasks': {} } };

let lastId = 0;
/** One request of the requester as an HTTP exchange; the client itself has no way to send methods that it does not know. */
async function rawDispatch(request, options) {
  const name = request.params?.taskId ?? request.params?.name;
  const answer = await fetch(address, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': request.method,
      ...(name === undefined ? {} : { 'mcp-name': name }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: ++lastId, ...request }),
    signal: options?.signal,
  });
  assert.match(answer.headers.get('content-type'), /^application\/json/);
  return answer.json();
}

const steps = new Steps(30);
const client = new Client(clientInfo, { versionNegotiation: { mode: 'auto' }, capabilities: clientCapabilities });
const asked = [];
let session;
const connected = await steps.step('connect', async () => {
  await client.connect(new StreamableHTTPClientTransport(new URL(address)));
  session = createTaskSessionFromClient(client, {
    endpointId: 'test',
    rawDispatch,
    v2RequestFraming: { protocolVersion: '2026-07-28', clientInfo, clientCapabilities },
    onInputRequest: async (request) => {
      asked.push(request.params.message);
      return { action: 'accept', content: { confirm: true } };
    },
  });
});

/** The text of a tool's result, through a task or not. */
async function call(name, args) {
  const execution = await session.callTool(name, args);
  const { outcome } = await execution.settle();
  return resultFromTaskOutcome(outcome);
}

/** Fails the step unless its body took less than three seconds; the time is printed beside the verdict. */
async function quickly(name, body) {
  const began = performance.now();
  await body();
  const seconds = (performance.now() - began) / 1000;
  console.error(`${name} ${seconds.toFixed(2)}`);
  assert(seconds < quickSeconds, `it took ${seconds.toFixed(2)} s`);
}

if (connected) {
  await steps.step('plain', async () => assert.equal(textOf(await call('greet', { name: 'ann' })), 'Hello, ann!'));
  await steps.step('task', () =>
    quickly('task', async () =>
      assert.equal(textOf(await call('slow_compute', { seconds: 2, label: 'a' })), 'Computed a for 2 s'),
    ),
  );
  await steps.step('question', () =>
    quickly('question', async () => {
      assert.equal(textOf(await call('confirm_delete', { filename: 'a.txt' })), 'Deleted a.txt');
      assert.deepEqual(asked, ['Delete a.txt?']);
    }),
  );
}
if (connected && only !== 'timed') {
  await steps.step('failure', async () => {
    assert.equal((await call('failing_job', {})).isError, true);
    await assert.rejects(call('protocol_error_job', {}), /protocol error/);
  });
  await steps.step('cancellation', async () => {
    const execution = await session.callTool('slow_compute', { seconds: 60 });
    await execution.cancel();
    await assert.rejects(async () => resultFromTaskOutcome((await execution.settle()).outcome));
  });
}
steps.print();
process.exit(0);
