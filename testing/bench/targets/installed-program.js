import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { serveParent } from '../../testkit/child.ts';
import { childrenOf } from '../../testkit/process-figures.ts';

/**
 * Runs an installed program until the parent disconnects or ends. The program counts as started when it accepts connections
 * on `port` and has `workers` child processes. `env`: additional environment variables.
 *
 * @typedef {{ command: string, args: readonly string[], port: number, workers: number, env?: Readonly<Record<string, string>> }} InstalledStart
 */

const startLimitMs = 10_000;
const retryIntervalMs = 20;

/** @type {import('node:child_process').ChildProcess | null} */
let program = null;
let ending = false;

serveParent(
  async (/** @type {InstalledStart} */ { command, args, port, workers, env = {} }) => {
    const started = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    });
    program = started;
    let output = '';
    started.stderr.on('data', (data) => {
      output = `${output}${String(data)}`.slice(-2_000);
    });
    started.once('error', (error) => fail(command, error.message));
    started.once('exit', () => fail(command, output.trim()));
    const untilMs = performance.now() + startLimitMs;
    const pid = started.pid ?? 0;
    while (performance.now() < untilMs) {
      if (await accepts(port)) {
        const children = await childrenOf(pid);
        if (children.length >= workers) return [pid, ...children];
      }
      await delay(retryIntervalMs);
    }
    throw new Error(`${command} does not listen on port ${port}: ${output.trim()}`);
  },
  async () => {
    ending = true;
    if (program === null || program.exitCode !== null) return;
    const ended = once(program, 'exit');
    program.kill('SIGTERM');
    await ended;
  },
);

/**
 * @param {string} command
 * @param {string} reason
 */
function fail(command, reason) {
  if (ending) return;
  console.error(`bench: ${command} ended: ${reason}`);
  process.exit(1);
}

/** @param {number} port */
async function accepts(port) {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
