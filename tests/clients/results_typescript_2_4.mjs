// Every result of `promises.py` in the TypeScript client of the 2.x line: `results_typescript_2_4.mjs URL legacy|auto`.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { callAll } from './results.mjs';
import { Steps } from './steps.mjs';

const steps = new Steps();
const [, , address, mode] = process.argv;
const client = new Client({ name: 'typescript-2.4', version: '0' }, { versionNegotiation: { mode } });
const connected = await steps.step('connect', () => client.connect(new StreamableHTTPClientTransport(new URL(address))));
if (connected) {
  await callAll(steps, {
    listTools: async () => (await client.listTools()).tools,
    call: (name) => client.callTool({ name, arguments: {} }),
  });
}
steps.print();
process.exit(0);
