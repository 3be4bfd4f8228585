import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** Whether there is a nats-server on this machine; where there is none its tests are left out, with a word. */
export const hasNatsServer = spawnSync('nats-server', ['--version']).status === 0;
if (!hasNatsServer) {
  process.stderr.write(
    'nats-server is not installed: the tests of the relay are left out (Debian: apt-get install nats-server)\n',
  );
}

/** A real nats-server with JetStream, which can be stopped and started again on the same port with its data. */
export interface TestNats {
  /** `nats://user:password@127.0.0.1:port` */
  readonly url: string;
  start(): Promise<void>;
  /** With SIGKILL. */
  stop(): Promise<void>;
  /** Takes what it has stored away; only while it is stopped. */
  forget(): Promise<void>;
  remove(): Promise<void>;
}

/** `maxPayload`: the largest message that it takes, in bytes; default its own, 1 MiB. */
export async function startNats({ maxPayload }: { maxPayload?: number } = {}): Promise<TestNats> {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-nats-'));
  const port = await freePort();
  const settings = path.join(folder, 'nats.conf');
  await writeFile(settings, maxPayload === undefined ? '' : `max_payload: ${maxPayload}`);
  let child: ChildProcess | null = null;
  const nats: TestNats = {
    url: `nats://relay:secret@127.0.0.1:${port}`,
    async start() {
      const where = [
        '-c',
        settings,
        '-a',
        '127.0.0.1',
        '-p',
        String(port),
        '-js',
        '-sd',
        path.join(folder, 'data'),
      ];
      const args = [...where, '--user', 'relay', '--pass', 'secret'];
      const started = spawn('nats-server', args, { stdio: ['ignore', 'ignore', 'pipe'] });
      child = started;
      const lines = createInterface({ input: started.stderr });
      for await (const line of lines) if (line.includes('Server is ready')) break;
      started.stderr.resume();
    },
    async stop() {
      if (child === null) return;
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
      child = null;
    },
    async forget() {
      await rm(path.join(folder, 'data'), { recursive: true, force: true });
    },
    async remove() {
      await nats.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
  await nats.start();
  return nats;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
