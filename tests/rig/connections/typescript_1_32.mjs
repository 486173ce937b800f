// The official TypeScript client of the 1.x line: `typescript_1_32.mjs URL legacy COUNT`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { freshFetch, main } from './many_connections.mjs';

async function connect(heard) {
  const client = new Client({ name: 'typescript-1.32', version: '0' });
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
    heard.push(params.uri);
  });
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), { fetch: freshFetch });
  await client.connect(transport);
  return {
    told: async (name) => (await client.callTool({ name, arguments: {} })).structuredContent,
    subscribe: (uris) => Promise.all(uris.map((uri) => client.subscribeResource({ uri }))),
    close: async () => {
      await transport.terminateSession(); // `client.close()` alone sends no DELETE
      await client.close();
    },
  };
}

await main(connect, { modern: false });
