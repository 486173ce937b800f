// A host of MCP Apps for one tool: `host.html?server=URL&tool=NAME&arguments=JSON&mode=auto|legacy&apps=yes|no`. Bundled with esbuild.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { AppBridge, PostMessageTransport, RESOURCE_MIME_TYPE, getToolUiResourceUri } from '@modelcontextprotocol/ext-apps/app-bridge';

const asked = new URLSearchParams(location.search);
const name = asked.get('tool');
const args = JSON.parse(asked.get('arguments') ?? '{}');
const mode = asked.get('mode') ?? 'auto';
const extensions = asked.get('apps') === 'no' ? {} : { 'io.modelcontextprotocol/ui': { mimeTypes: [RESOURCE_MIME_TYPE] } };
const frame = document.getElementById('app');
const info = { name: 'host', version: '1' };

// What a test, or whoever takes the picture, waits for and looks at.
const seen = (window.seen = { sizes: [], calls: [] });

async function show() {
  const client = new Client(info, { capabilities: { extensions }, versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(asked.get('server'))));
  seen.version = client.getNegotiatedProtocolVersion();
  seen.declared = client.getServerCapabilities().extensions;
  const tool = (await client.listTools()).tools.find((each) => each.name === name);
  const result = await client.callTool({ name, arguments: args });
  document.getElementById('asked').textContent = `${name}(${JSON.stringify(args)})`;
  document.getElementById('text').textContent = `What the model reads: ${result.content[0].text.slice(0, 120)}…`;
  seen.uri = getToolUiResourceUri(tool);
  if (asked.get('apps') === 'no') return frame.remove();

  const [app] = (await client.readResource({ uri: seen.uri })).contents;
  seen.app = { mimeType: app.mimeType, ui: app._meta?.ui };
  const bridge = new AppBridge(null, info, { serverTools: {} }, { hostContext: { theme: 'light', toolInfo: { tool } } });
  const sized = new Promise((resolve) => {
    bridge.onsizechange = ({ height }) => {
      frame.style.height = `${height}px`;
      seen.sizes.push(height);
      resolve();
    };
  });
  bridge.oncalltool = async (params) => {
    seen.calls.push(params);
    return client.callTool(params);
  };
  const initialized = new Promise((resolve) => (bridge.oninitialized = resolve));
  bridge.onsandboxready = () => bridge.sendSandboxResourceReady({ html: app.text, csp: app._meta?.ui?.csp });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  // Another origin than ours: the same server under its other name.
  frame.src = new URL('sandbox.html', location.href.replace('127.0.0.1', 'localhost'));
  await initialized;
  seen.appInfo = bridge.getAppVersion();
  await bridge.sendToolInput({ arguments: args });
  await bridge.sendToolResult(result);
  await sized;
}

seen.done = show().then(() => 'shown', (error) => `failed: ${error.stack ?? error}`);
