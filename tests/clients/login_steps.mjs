// A TypeScript client logs in, uses the server, gets another token, and asks for one with more scopes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Steps, timeLeft } from './steps.mjs';

const REDIRECT = 'http://127.0.0.1:3030/callback';

/** Keeps tokens in memory, and logs in where the client sends it. */
export class Person {
  logins = 0;
  callback = undefined;
  redirectUrl = REDIRECT;
  clientMetadata = {
    client_name: 'typescript',
    redirect_uris: [REDIRECT],
    grant_types: ['authorization_code', 'refresh_token'],
  };

  clientInformation = () => this.client;
  saveClientInformation = (client) => void (this.client = client);
  tokens = () => this.kept;
  saveTokens = (tokens) => void (this.kept = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);
  discoveryState = () => this.discovered;
  saveDiscoveryState = (state) => void (this.discovered = state);

  async redirectToAuthorization(url) {
    this.logins += 1;
    const { PYTHON, BROWSER_SCRIPT } = process.env;
    const { stdout } = await promisify(execFile)(PYTHON, [BROWSER_SCRIPT, url.href, REDIRECT]);
    this.callback = new URL(stdout.trim()).searchParams;
  }
}

/**
 * `connect` gives a new client with its transport; `isUnauthorized` tells the error that wants `finish(transport, answer)`.
 */
export async function logIn({ connect, call, isUnauthorized, finish }) {
  const steps = new Steps(60);
  const person = new Person();
  let [client, transport] = [];

  const withLogin = async (body) => {
    try {
      return await body();
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
      await finish(transport, person.callback);
      return undefined;
    }
  };
  const expires = async () => Number((await call(client, 'expires', {})).content[0].text);

  const loggedIn = await steps.step('login', async () => {
    let created = await connect(person);
    [client, transport] = created;
    await withLogin(() => created.open());
    assert.equal(person.logins, 1);
    created = await connect(person);
    [client, transport] = created;
    await created.open();
  });
  if (loggedIn) {
    await steps.step('list', async () => {
      assert.ok((await client.listTools()).tools.some((tool) => tool.name === 'add'));
    });
    await steps.step('call', async () => {
      assert.equal((await call(client, 'add', { a: 1, b: 2 })).content[0].text, '3');
    });
    await steps.step('refresh', async () => {
      const first = await expires();
      const left = timeLeft(first);
      await sleep(left);
      assert.ok(left === 0 || (await expires()) > first);
      assert.equal(person.logins, 1, 'it logged in anew');
    });
    await steps.step('step-up', async () => {
      const write = () => call(client, 'write', { text: 'a' });
      const answer = (await withLogin(write)) ?? (await write());
      assert.equal(answer.content[0].text, 'wrote a');
      assert.equal(person.logins, 2);
    });
  }
  steps.print();
  process.exit(0);
}
