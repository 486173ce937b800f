// The TypeScript SDK 1.32 on Node's own http server, one transport per session: `typescript_sdk.mjs PORT`.
// JSON answers, its fastest mode, unless SSE=1.
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

const transports = new Map();
const numbers = { a: z.number().int(), b: z.number().int() };
const sum = ({ a, b }) => ({ content: [{ type: 'text', text: String(a + b) }] });

function newServer() {
  const server = new McpServer({ name: 'bench', version: '1' });
  server.registerTool('add', { description: 'Add two integers.', inputSchema: numbers }, async (given) => sum(given));
  server.registerTool(
    'add_with_progress',
    { description: 'Add two integers, after a notification.', inputSchema: numbers },
    async (given, { _meta, sendNotification }) => {
      const params = { progressToken: _meta.progressToken, progress: 1, total: 1 };
      await sendNotification({ method: 'notifications/progress', params });
      return sum(given);
    },
  );
  return server;
}

async function newTransport() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    enableJsonResponse: process.env.SSE !== '1',
    onsessioninitialized: (id) => transports.set(id, transport),
  });
  await newServer().connect(transport);
  return transport;
}

const server = http.createServer(async (request, response) => {
  const id = request.headers['mcp-session-id'];
  const transport = id ? transports.get(id) : await newTransport();
  if (!transport) return response.writeHead(404).end();
  await transport.handleRequest(request, response);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
