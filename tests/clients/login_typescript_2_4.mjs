// @modelcontextprotocol/client logs in: `login_typescript_2_4.mjs URL legacy|auto`.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { logIn } from './login_steps.mjs';

const [, , url, mode] = process.argv;
await logIn({
  connect: async (authProvider) => {
    const client = new Client({ name: 'typescript-2.4', version: '0' }, { versionNegotiation: { mode } });
    const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
    return Object.assign([client, transport], { open: () => client.connect(transport) });
  },
  call: (client, name, args) => client.callTool({ name, arguments: args }),
  isUnauthorized: (error) => error instanceof UnauthorizedError || error?.cause instanceof UnauthorizedError,
  finish: (transport, answer) => transport.finishAuth(answer),
});
