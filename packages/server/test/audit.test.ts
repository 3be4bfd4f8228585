import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'vitest';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const advisory = { id: 1, url: 'https://advisories.example/1', title: 'A hole', vulnerable_versions: '*' };

/** Runs the check against a registry that answers with this when it is asked for known holes. */
async function audit(answer: { status: number; body: object }): Promise<{ code: number; said: string }> {
  const registry = createServer((request, response) => {
    request.resume();
    const isAsked = request.url?.endsWith('/advisories/bulk') ?? false;
    response.writeHead(isAsked ? answer.status : 404, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(isAsked ? answer.body : {}));
  }).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  const { port } = registry.address() as AddressInfo;
  const child = spawn(process.execPath, ['scripts/audit.js'], {
    cwd: root,
    env: { ...process.env, npm_config_registry: `http://127.0.0.1:${port}/` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number]>;
  const [[code], out, problems] = await Promise.all([exited, text(child.stdout), text(child.stderr)]);
  registry.closeAllConnections();
  registry.close();
  return { code, said: out + problems };
}

describe.concurrent('the audit of the dependencies', () => {
  it('fails on a high-severity vulnerability of a production dependency, and names it', async ({
    expect,
  }) => {
    const body = { pg: [{ ...advisory, severity: 'high' }], hono: [{ ...advisory, severity: 'moderate' }] };
    const { code, said } = await audit({ status: 200, body });
    expect(code).toBe(1);
    expect(said).toMatch(/^audit: pg .*: high$/m);
    expect(said).not.toContain('hono');
  });

  it('passes with one line if the registry is not available', async ({ expect }) => {
    const { code, said } = await audit({ status: 405, body: {} });
    expect(code).toBe(0);
    expect(said).toMatch(/^audit: skipped, the registry is not available \(405 .*\n$/);
  });
});
