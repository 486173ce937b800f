// Every result of `promises.py` in the TypeScript client of the 1.x line: `results_typescript_1_32.mjs URL legacy`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { callAll } from './results.mjs';
import { Steps } from './steps.mjs';

const steps = new Steps();
const client = new Client({ name: 'typescript-1.32', version: '0' });
const connected = await steps.step('connect', () => client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]))));
if (connected) {
  await callAll(steps, {
    listTools: async () => (await client.listTools()).tools,
    call: (name) => client.callTool({ name, arguments: {} }),
  });
}
steps.print();
process.exit(0);
