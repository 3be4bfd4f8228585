/**
 * `npm run dev`: the server and the console from their sources, on the embedded PostgreSQL. Options are those of
 * `flagcast serve`. Vite reloads the console after a change, and this script restarts the server.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createServer } from 'vite';

const root = fileURLToPath(new URL('../', import.meta.url));
const port = process.env['PORT'] ?? '8080';
/** What the server consists of. */
const serverFolders = [
  'protocol/src',
  'server/src',
  'server/sql',
  'console/server',
  'demo/src',
  'io-uring/src',
].map((folder) => path.join(root, 'packages', folder));

let isStopping = false;
/** Whether a source has changed since the server was started. */
let isOutdated = false;

const vite = await createServer({
  configFile: path.join(root, 'packages/console/vite.config.ts'),
  root: path.join(root, 'packages/console'),
  clearScreen: false,
  server: { proxy: { '/api': { target: `http://127.0.0.1:${port}`, ws: true } } },
});
vite.watcher.add(serverFolders).on('change', restartAfter).on('unlink', restartAfter);
await vite.listen();
// Vite would exit before the server has stopped.
process.removeAllListeners('SIGTERM');
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);
let server = startServer();

function startServer() {
  isOutdated = false;
  const options = ['--conditions=@flagcast/source', '--import=tsx', '--enable-source-maps'];
  const file = path.join(root, 'scripts/dev/server.ts');
  const child = spawn(process.execPath, [...options, file, ...process.argv.slice(2)], {
    // In its own process group Ctrl+C reaches it once, through this script.
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    env: { FLAGCAST_DATA_DIR: path.join(root, '.flagcast/dev'), ...process.env, PORT: port },
  });
  if (child.stdout !== null) createInterface(child.stdout).on('line', print);
  void once(child, 'exit').then(async () => {
    if (isStopping) {
      await vite.close();
      process.exit();
    }
    if (isOutdated) server = startServer();
    else console.log('The server has ended. It starts again after a change.');
  });
  return child;
}

/** @param {string} file */
function restartAfter(file) {
  if (isStopping || !serverFolders.some((folder) => file.startsWith(folder))) return;
  console.log(`changed: ${path.relative(root, file)}`);
  if (server.exitCode !== null || server.signalCode !== null) server = startServer();
  else if (!isOutdated) {
    isOutdated = true;
    server.kill('SIGTERM');
  }
}

/** A second signal makes the server exit immediately. */
function stop() {
  isStopping = true;
  if (!server.kill('SIGTERM')) process.exit();
}

/**
 * Prints a line of the server, and how to open the console when the server listens.
 *
 * @param {string} line
 */
function print(line) {
  if (!line.startsWith('{')) {
    console.log(line);
    return;
  }
  const { time: _, event, ...fields } = /** @type {{ time: string; event: string }} */ (JSON.parse(line));
  console.log(`server: ${event} ${JSON.stringify(fields)}`);
  if (event !== 'server_listening') return;
  const url = vite.resolvedUrls?.local[0] ?? '';
  console.log(`\nOpen ${url} and sign in with a click on alice, bob or carol. Ctrl+C stops everything.\n`);
}
