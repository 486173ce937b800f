// Calls every tool that takes no arguments; for both generations of the TypeScript client.
import assert from 'node:assert/strict';

/** One step for the list, whose output schemas the client compiles, and one for each result, which it checks. */
export async function callAll(steps, { listTools, call }) {
  let tools = [];
  await steps.step('list', async () => {
    tools = await listTools();
    assert(tools.length > 100, `only ${tools.length} tools`);
  });
  for (const { name, inputSchema, outputSchema } of tools) {
    if (Object.keys(inputSchema.properties ?? {}).length) continue;
    await steps.step(name, async () => {
      const result = await call(name);
      assert(!result.isError, JSON.stringify(result.content));
      assert(!outputSchema || result.structuredContent !== undefined, 'no structured content');
    });
  }
}
