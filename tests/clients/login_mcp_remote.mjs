// mcp-remote logs in and passes on what a client on its stdio asks: `login_mcp_remote.mjs URL`; `xdg-open` is the browser.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { Steps, timeLeft } from './steps.mjs';

const steps = new Steps(60); // it starts more processes
const client = new Client({ name: 'behind mcp-remote', version: '0' });
const proxy = new URL('./node_modules/mcp-remote/dist/proxy.js', import.meta.url).pathname;
const transport = new StdioClientTransport({
  command: process.execPath,
  args: [proxy, process.argv[2], '--allow-http'],
  env: process.env,
  stderr: 'ignore',
});
const text = async (name, args) => (await client.callTool({ name, arguments: args })).content[0].text;

const loggedIn = await steps.step('login', () => client.connect(transport));
if (loggedIn) {
  await steps.step('list', async () => {
    assert.ok((await client.listTools()).tools.some((tool) => tool.name === 'add'));
  });
  await steps.step('call', async () => assert.equal(await text('add', { a: 1, b: 2 }), '3'));
  await steps.step('refresh', async () => {
    const first = Number(await text('expires', {}));
    const left = timeLeft(first);
    await sleep(left);
    assert.ok(left === 0 || Number(await text('expires', {})) > first);
  });
  await steps.step('step-up', async () => assert.equal(await text('write', { text: 'a' }), 'wrote a'));
}
steps.print();
await client.close();
process.exit(0);
