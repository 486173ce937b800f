// The official TypeScript client of the 1.x line, @modelcontextprotocol/sdk: `typescript_1_32.mjs URL`. Sessions only.
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { Steps, assertForgotten, converse, watchingFetch } from './steps.mjs';

const url = new URL(process.argv[2]);
const steps = new Steps();
const lastEventIds = [];
const questions = [];
const client = new Client({ name: 'typescript-1.32', version: '0' }, { capabilities: { elicitation: {} } });
const transport = new StreamableHTTPClientTransport(url, { fetch: watchingFetch(lastEventIds) });

client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  questions.push(params.message);
  return { action: 'accept', content: { username: 'ada', email: 'ada@example.org' } };
});
const toolsChanged = new Promise((resolve) => {
  client.setNotificationHandler(ToolListChangedNotificationSchema, resolve);
});

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
    resumes: true,
  });
  await steps.step('close', async () => {
    const sessionId = transport.sessionId;
    await transport.terminateSession(); // `client.close()` alone sends no DELETE
    await client.close();
    await assertForgotten(url, sessionId);
  });
}
steps.print();
process.exit(0);
