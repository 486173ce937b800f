// @modelcontextprotocol/sdk logs in: `login_typescript_1_32.mjs URL`. Sessions only.
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { logIn } from './login_steps.mjs';

await logIn({
  connect: async (authProvider) => {
    const client = new Client({ name: 'typescript-1.32', version: '0' });
    const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), { authProvider });
    return Object.assign([client, transport], { open: () => client.connect(transport) });
  },
  call: (client, name, args) => client.callTool({ name, arguments: args }),
  isUnauthorized: (error) => error instanceof UnauthorizedError,
  finish: (transport, answer) => transport.finishAuth(answer.get('code')),
});
