// The official TypeScript client of the 1.x line, @modelcontextprotocol/sdk: `typescript_1_32.mjs URL [websocket]`. Sessions only.
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
import { ElicitRequestSchema, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { Steps, assertCancelled, assertForgotten, converse, watchingFetch } from './steps.mjs';

const url = new URL(process.argv[2]);
const overWebSocket = process.argv[3] === 'websocket';
const steps = new Steps();
const lastEventIds = [];
const questions = [];

function newTransport() {
  if (!overWebSocket) return new StreamableHTTPClientTransport(url, { fetch: watchingFetch(lastEventIds) });
  const transport = new WebSocketClientTransport(new URL(url.href.replace(/^http/, 'ws')));
  transport.setProtocolVersion = (version) => { transport.protocolVersion = version; };
  return transport;
}

const newClient = () => new Client({ name: 'typescript-1.32', version: '0' }, { capabilities: { elicitation: {} } });
const client = newClient();
const transport = newTransport();

client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  questions.push(params.message);
  return { action: 'accept', content: { username: 'ada', email: 'ada@example.org' } };
});
const toolsChanged = new Promise((resolve) => {
  client.setNotificationHandler(ToolListChangedNotificationSchema, resolve);
});

/** The end of the connection must be the end of its calls. */
async function closeWebSocket() {
  const other = newClient();
  await other.connect(newTransport());
  const call = (name, args) => other.callTool({ name, arguments: args ?? {} });
  const lost = client.callTool({ name: 'slow', arguments: { seconds: 30 } });
  const rejected = assert.rejects(lost);
  await assertCancelled(call, () => client.close());
  await rejected;
  await other.close();
}

const connected = await steps.step('connect', async () => {
  await client.connect(transport);
  assert.equal(transport.protocolVersion, '2025-11-25');
});
if (connected) {
  await converse(steps, {
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    listTools: async () => (await client.listTools()).tools,
    listen: async () => null,
    toolsChanged,
    questions,
    lastEventIds,
    resumes: !overWebSocket, // the connection is the session
    losesLastProgress: overWebSocket,
  });
  await steps.step('close', overWebSocket ? closeWebSocket : async () => {
    const sessionId = transport.sessionId;
    await transport.terminateSession(); // `client.close()` alone sends no DELETE
    await client.close();
    await assertForgotten(url, sessionId);
  });
}
steps.print();
process.exit(0);
