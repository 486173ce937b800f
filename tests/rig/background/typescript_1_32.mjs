// The official TypeScript client of the 1.x line beside a load: `typescript_1_32.mjs URL MODE`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { callUntilStdinEnds } from './call_loop.mjs';

await callUntilStdinEnds(async (onMessage) => {
  const client = new Client({ name: 'typescript-1.32', version: '0' });
  client.fallbackNotificationHandler = async () => onMessage();
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
  await client.connect(transport);
  return {
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    close: () => client.close(),
  };
});
