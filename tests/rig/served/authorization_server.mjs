// A real authorization server, oidc-provider, on loopback: `authorization_server.mjs CONFIGURATION`, a JSON object.
import http from 'node:http';
import Provider from 'oidc-provider';

const { port, keys, clients, scopes, seconds, renewedSeconds, opaque } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;

// A resource whose URL has one of `opaque` in it gets tokens that only introspection can read; all others get JWTs.
const resourceServer = (resource, grant) => ({
  audience: resource,
  scope: scopes.join(' '),
  accessTokenTTL: grant === 'refresh_token' ? renewedSeconds : seconds,
  accessTokenFormat: opaque.some((part) => resource.includes(part)) ? 'opaque' : 'jwt',
  jwt: { sign: { alg: 'RS256' } },
});

const provider = new Provider(issuer, {
  jwks: { keys },
  clients,
  scopes: ['openid', 'offline_access', ...scopes],
  cookies: { keys: ['signs the cookies of a test'] },
  // Clients that do not ask for offline_access can refresh as well: most MCP clients do not ask.
  issueRefreshToken: async (context, client) => client.grantTypeAllowed('refresh_token'),
  // A client that registers itself with the scopes it needs first may ask for more later: step-up needs that.
  extraClientMetadata: {
    properties: ['any_scope'],
    validator: (context, key, value, metadata) => {
      delete metadata.scope;
    },
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    registration: { enabled: true },
    revocation: { enabled: true, allowedPolicy: async () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (context, resource) => resourceServer(resource, context.oidc.params?.grant_type),
    },
  },
});

// A refresh token that was replaced is good for a while, as at Okta (30 s) and Auth0 (its overlap period): a client renews twice at once, or ends
// before it has kept the new one.
const OVERLAP_SECONDS = 30;
const consume = provider.RefreshToken.prototype.consume;
provider.RefreshToken.prototype.consume = async function () {
  setTimeout(() => consume.call(this), OVERLAP_SECONDS * 1000).unref();
};

// What is refused is a line: a client says less about it. (Of a refresh token that was used before, the server takes back all that came of it.)
provider.on('grant.error', (context, error) => {
  console.log(`refused ${context.oidc?.params?.grant_type}: ${error.error_detail ?? error.message}`);
});

// One line for each request, so that tests can count them.
const answer = provider.callback();
http
  .createServer((request, response) => {
    console.log(`${request.method} ${request.url.split('?')[0]}`);
    answer(request, response);
  })
  .listen(port, '127.0.0.1', () => console.log(`listening on ${issuer}`));
