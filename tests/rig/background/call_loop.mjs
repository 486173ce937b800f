// One client beside a load: it calls a tool until stdin ends, then prints what it saw, as one JSON line.
import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE_MS = 300;
const CALL_MS = 30_000;
const PATIENCE = 2; // so many failures in a row, and it connects anew

/** `connect(onMessage)` gives `{call(name, args, options), close()}`. */
export async function callUntilStdinEnds(connect) {
  const seen = { connects: 0, calls: 0, heard: 0, slowest: 0, nodes: {}, failures: [] };
  const failed = (error) => seen.failures.push({ at: Date.now() / 1000, error: `${error.name}: ${error.message}` });
  let stopping = false;
  process.stdin.resume();
  process.stdin.on('end', () => {
    stopping = true;
  });

  async function callUntilLost(client) {
    let failures = 0;
    while (!stopping && failures < PATIENCE) {
      const started = performance.now();
      try {
        const { node } = (await client.call('where', {}, { timeout: CALL_MS })).structuredContent;
        failures = 0;
        seen.calls += 1;
        seen.nodes[node] = (seen.nodes[node] ?? 0) + 1;
        console.log('called');
      } catch (error) {
        failures += 1;
        failed(error);
      }
      seen.slowest = Math.max(seen.slowest, (performance.now() - started) / 1000);
      await sleep(PAUSE_MS);
    }
  }

  while (!stopping) {
    try {
      const client = await connect(() => {
        seen.heard += 1;
      });
      seen.connects += 1;
      console.log('working');
      await callUntilLost(client);
      await client.close();
    } catch (error) {
      failed(error);
      await sleep(PAUSE_MS);
    }
  }
  console.log(JSON.stringify(seen));
  process.exit(0);
}
