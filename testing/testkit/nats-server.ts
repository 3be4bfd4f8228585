import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort, Program } from './program.ts';

/** Whether nats-server is installed. Without it the tests of the relay are skipped, and that is reported. */
export const hasNatsServer = spawnSync('nats-server', ['--version']).status === 0;
if (!hasNatsServer) {
  process.stderr.write(
    'nats-server is not installed: the tests of the relay are skipped (Debian: apt-get install nats-server)\n',
  );
}

export type TestNats = Awaited<ReturnType<typeof prepareNats>>;

export interface TestNatsOptions {
  /** The largest message, in bytes. Default 1 MiB. */
  readonly maxPayload?: number;
  /** Subjects that clients may not publish on. */
  readonly denies?: readonly string[];
  /** Requires TLS with this certificate for `localhost`. */
  readonly certificate?: { readonly certFile: string; readonly keyFile: string };
}

export async function startNats(options: TestNatsOptions = {}): Promise<TestNats> {
  const { maxPayload, denies, certificate } = options;
  const settings = [
    ...(maxPayload === undefined ? [] : [`max_payload: ${maxPayload}`]),
    ...(denies === undefined ? [] : [userWithout(denies)]),
    ...(certificate === undefined
      ? []
      : [`tls { cert_file: "${certificate.certFile}", key_file: "${certificate.keyFile}" }`]),
  ];
  const nats = await prepareNats(settings, certificate !== undefined);
  await nats.start();
  return nats;
}

const userWithout = (denied: readonly string[]): string =>
  `authorization { users: [{ user: relay, password: secret, permissions: { publish: { deny: ${JSON.stringify(denied)} } } }] }`;

/** A cluster. The name of each server is its address. */
export async function startNatsCluster(count: number): Promise<TestNats[]> {
  const ports: number[] = [];
  for (let node = 0; node < count; node += 1) ports.push(await freePort());
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
  const nodes = await Promise.all(
    ports.map(async (port) => {
      const cluster = `cluster { name: relay, listen: "127.0.0.1:${port}", routes: [${routes}] }`;
      return await prepareNats([cluster]);
    }),
  );
  await Promise.all(nodes.map(async (node) => await node.start()));
  return nodes;
}

/** A nats-server with JetStream. It can be restarted on the same port with its data. */
async function prepareNats(settings: readonly string[], isTls = false) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-nats-'));
  const [port, monitorPort] = [await freePort(), await freePort()];
  const address = `127.0.0.1:${port}`;
  const file = path.join(folder, 'nats.conf');
  await writeFile(file, [`server_name: "${address}"`, ...settings].join('\n'));
  let program: Program | null = null;
  const stop = async (): Promise<void> => {
    await program?.end();
    program = null;
  };
  return {
    /** `nats://user:password@127.0.0.1:port`; with a certificate `tls://user:password@localhost:port` */
    url: isTls ? `tls://relay:secret@localhost:${port}` : `nats://relay:secret@${address}`,
    /** `127.0.0.1:port` */
    address,
    async start(): Promise<void> {
      const where = ['-c', file, '-a', '127.0.0.1', '-p', String(port), '-m', String(monitorPort)];
      const hasUser = settings.some((setting) => setting.startsWith('authorization'));
      const user = hasUser ? [] : ['--user', 'relay', '--pass', 'secret'];
      const args = [...where, '-js', '-sd', path.join(folder, 'data'), ...user];
      program = new Program('nats-server', args);
      await program.errorLine((line) => line.includes('Server is ready'));
    },
    /** With SIGKILL. */
    stop,
    signal(signal: NodeJS.Signals): void {
      program?.signal(signal);
    },
    /** The number of messages in both directions since its start. */
    async messages(): Promise<number> {
      const response = await fetch(`http://127.0.0.1:${monitorPort}/varz`);
      const varz = (await response.json()) as { readonly in_msgs: number; readonly out_msgs: number };
      return varz.in_msgs + varz.out_msgs;
    },
    /** Deletes its data; only while it is stopped. */
    async forget(): Promise<void> {
      await rm(path.join(folder, 'data'), { recursive: true, force: true });
    },
    async remove(): Promise<void> {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
