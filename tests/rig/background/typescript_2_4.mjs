// The official TypeScript client beside a load: `typescript_2_4.mjs URL MODE`.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { callUntilStdinEnds } from './call_loop.mjs';

await callUntilStdinEnds(async (onMessage) => {
  const client = new Client(
    { name: 'typescript-2.4', version: '0' },
    { versionNegotiation: { mode: process.argv[3] } },
  );
  client.fallbackNotificationHandler = async () => onMessage();
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
  await client.connect(transport);
  return {
    call: (name, args, options) => client.callTool({ name, arguments: args }, options),
    close: () => client.close(),
  };
});
