// The official TypeScript client, @modelcontextprotocol/client: `typescript_2_4.mjs URL legacy|auto`.
import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Steps, assertForgotten, converse, watchingFetch } from './steps.mjs';

const VERSIONS = { legacy: '2025-11-25', auto: '2026-07-28' };
const [, , address, mode] = process.argv;
const url = new URL(address);
const steps = new Steps();
const lastEventIds = [];
const questions = [];
const client = new Client(
  { name: 'typescript-2.4', version: '0' },
  { capabilities: { elicitation: {} }, versionNegotiation: { mode } },
);
const transport = new StreamableHTTPClientTransport(url, { fetch: watchingFetch(lastEventIds) });

client.setRequestHandler('elicitation/create', ({ params }) => {
  questions.push(params.message);
  return { action: 'accept', content: { username: 'ada', email: 'ada@example.org' } };
});
const toolsChanged = new Promise((resolve) => {
  client.setNotificationHandler('notifications/tools/list_changed', resolve);
});

const connected = await steps.step('connect', async () => {
  await client.connect(transport);
  assert.equal(client.getNegotiatedProtocolVersion(), VERSIONS[mode]);
});
if (connected) {
  await converse(steps, {
    call: (name, args, options) => client.callTool({ name, arguments: args }, options),
    listTools: async () => (await client.listTools()).tools,
    listen: async () => (mode === 'legacy' ? null : client.listen({ toolsListChanged: true })),
    toolsChanged,
    questions,
    lastEventIds,
    resumes: mode === 'legacy', // 2026-07-28 has no resumption
  });
  await steps.step('close', async () => {
    const sessionId = transport.sessionId;
    if (mode === 'legacy') await transport.terminateSession(); // `client.close()` alone sends no DELETE
    await client.close();
    if (mode === 'legacy') await assertForgotten(url, sessionId);
  });
}
steps.print();
process.exit(0);
