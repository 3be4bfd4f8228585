import { fileURLToPath } from 'node:url';
import type { Owner } from './bounded-run.ts';
import { childrenOf } from './process-figures.ts';
import { freePort, parseFields, Program } from './program.ts';

/** Tests set FLAGCAST_PROGRAM: a bundle of the command, which starts in less processor time. */
const command =
  process.env['FLAGCAST_PROGRAM'] ??
  fileURLToPath(new URL('../../packages/server/bin/flagcast.js', import.meta.url));
/** Time limit for a graceful end, in milliseconds. */
const endLimitMs = 15_000;

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
export interface ServeProcess extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly pid: number;
  /** Its output, and how it ended. */
  readonly program: Program;
  /** The process, then its workers. */
  pids(): Promise<readonly number[]>;
  /** Lets it shut down; after 15 s it is killed. Resolves when it has ended. */
  end(): Promise<void>;
  /** Ends it with SIGKILL. Resolves when it has ended. */
  kill(): Promise<void>;
}

/**
 * Runs `flagcast serve` until `end`, `kill` or the end of its owner, which fails if the process ends before. Resolves when
 * it listens and all of its workers read events.
 */
export async function startServe(
  owner: Owner,
  { env, port, workers = 1, execArgv = [] }: ServeOptions,
): Promise<ServeProcess> {
  const chosen = port ?? (await freePort());
  const args = ['serve', '--port', String(chosen), ...(workers === 1 ? [] : ['--workers', String(workers)])];
  const program = new Program(process.execPath, [...execArgv, command, ...args], { env });
  let isEnding = false;
  const kill = async (): Promise<void> => {
    isEnding = true;
    await program.end();
  };
  const end = async (): Promise<void> => {
    isEnding = true;
    program.signal('SIGTERM');
    const limit = setTimeout(() => program.signal('SIGKILL'), endLimitMs);
    await program.ended;
    clearTimeout(limit);
  };
  owner.defer(kill);
  void program.ended.then(({ code, signal, stderr }) => {
    if (isEnding) return;
    owner.fail(new Error(`flagcast serve ended with ${code ?? signal ?? 'nothing'}: ${stderr.trim()}`));
  });
  let reading = 0;
  await program.logged('server_listening');
  await program.line((line) => {
    if (line.includes('"reader_started"') && parseFields(line)?.['event'] === 'reader_started') reading += 1;
    return reading >= workers;
  });
  return {
    port: chosen,
    url: `http://127.0.0.1:${chosen}`,
    pid: program.pid,
    program,
    pids: async () => [program.pid, ...(await childrenOf(program.pid))],
    end,
    kill,
    [Symbol.asyncDispose]: end,
  };
}
