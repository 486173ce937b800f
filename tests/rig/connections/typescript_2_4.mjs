// The official TypeScript client: `typescript_2_4.mjs URL legacy|auto COUNT`.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { freshFetch, main } from './many_connections.mjs';

const mode = process.argv[3];

async function connect(heard, asked) {
  const client = new Client(
    { name: 'typescript-2.4', version: '0' },
    { capabilities: { elicitation: {} }, versionNegotiation: { mode } },
  );
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => {
    heard.push(params.uri);
  });
  client.setRequestHandler('elicitation/create', ({ params }) => {
    asked.push(params.message.replace('asked by ', ''));
    return { action: 'accept', content: { name: 'ada' } };
  });
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), { fetch: freshFetch });
  await client.connect(transport);
  let listening = null;
  return {
    told: async (name) => (await client.callTool({ name, arguments: {} })).structuredContent,
    subscribe: async (uris) => {
      if (mode === 'auto') listening = await client.listen({ resourceSubscriptions: uris });
      else await Promise.all(uris.map((uri) => client.subscribeResource({ uri })));
    },
    close: async () => {
      await listening?.close();
      if (mode === 'legacy') await transport.terminateSession(); // `client.close()` alone sends no DELETE
      await client.close();
    },
  };
}

await main(connect, { modern: mode === 'auto' });
