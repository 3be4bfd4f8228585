import { fileURLToPath } from 'node:url';
import type { Owner } from './bounded-run.ts';
import { freePort, parseFields, Program, supervise, type Supervised } from './program.ts';

/** Tests set FLAGCAST_PROGRAM: a bundle of the command, which starts in less processor time. */
const command =
  process.env['FLAGCAST_PROGRAM'] ??
  fileURLToPath(new URL('../../packages/server/bin/flagcast.js', import.meta.url));

export interface ServeOptions {
  /** The settings: environment variables of `flagcast serve`. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: a free one. */
  readonly port?: number | undefined;
  /** Default 1. */
  readonly workers?: number | undefined;
  /** Arguments of Node. Default: none. */
  readonly execArgv?: readonly string[];
}

/** A `flagcast serve`. */
export interface ServeProcess extends Supervised {
  readonly port: number;
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly pid: number;
  /** Its output, and how it ended. */
  readonly program: Program;
  /** The value of a series, with its labels, in /metrics. */
  readonly metric: (series: string) => Promise<number>;
}

/** Runs `flagcast serve`. Resolves when it listens and all of its workers read events. */
export async function startServe(
  owner: Owner,
  { env, port, workers = 1, execArgv = [] }: ServeOptions,
): Promise<ServeProcess> {
  const chosen = port ?? (await freePort());
  const args = ['serve', '--port', String(chosen), ...(workers === 1 ? [] : ['--workers', String(workers)])];
  const program = new Program(process.execPath, [...execArgv, command, ...args], { env });
  const supervised = supervise(owner, program, 'flagcast serve');
  let reading = 0;
  await program.logged('server_listening');
  await program.line((line) => {
    if (line.includes('"reader_started"') && parseFields(line)?.['event'] === 'reader_started') reading += 1;
    return reading >= workers;
  });
  const url = `http://127.0.0.1:${chosen}`;
  const metric = async (series: string): Promise<number> => {
    const response = await fetch(`${url}/metrics`, { headers: { Connection: 'close' } });
    const line = (await response.text()).split('\n').find((each) => each.startsWith(`${series} `));
    if (line === undefined) throw new Error(`/metrics has no ${series}`);
    return Number(line.slice(series.length));
  };
  return { ...supervised, port: chosen, url, pid: program.pid, program, metric };
}
